"""Sums over new axes in front and forgets axes of length 1."""
# kills: q1a, q1b, q1c


def unbroadcast(g, shape):
    while g.ndim > len(shape):
        g = g.sum(axis=0)
    return g
