"""Forgets the 32-bit copy of the weights."""
# kills: q5a


def training_bytes(parameters, optimizer):
    return parameters * (4 + {"sgd": 0, "momentum": 4, "adam": 8}[optimizer])
