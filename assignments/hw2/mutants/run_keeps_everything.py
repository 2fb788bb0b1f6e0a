"""Holds all values and computes nothing again."""
# kills: q5c


def checkpointed(forward, backward, seed, x, n, kept):
    values = [x]
    for i in range(1, n + 1):
        values.append(forward(i, values[-1]))
    g = seed(values[-1])
    for i in range(n, 0, -1):
        g = backward(i, values[i - 1], g)
    return values[-1], g
