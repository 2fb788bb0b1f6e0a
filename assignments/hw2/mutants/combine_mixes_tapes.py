"""Takes a place of another tape for one of its own."""
# kills: q2c


def combine(operation, left, right):
    beside = left if isinstance(left, Tensor) else right
    places = []
    for operand in (left, right):
        if not isinstance(operand, Tensor):
            value = np.asarray(operand)
            operand = beside.tape.step("constant", value=value if value.ndim else value.astype(beside.dtype))
        places.append(operand.place)
    return beside.tape.step(operation, places)
