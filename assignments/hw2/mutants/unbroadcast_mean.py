"""Averages the uses of a number instead of adding them."""
# kills: q1a, q1b, q1c


def unbroadcast(g, shape):
    lead = g.ndim - len(shape)
    axes = (*range(lead), *(lead + i for i, size in enumerate(shape) if size == 1))
    return g.mean(axis=axes).reshape(shape)
