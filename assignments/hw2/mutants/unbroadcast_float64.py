"""Adds up in float64 and stays there."""
# kills: q1a


def unbroadcast(g, shape):
    lead = g.ndim - len(shape)
    axes = (*range(lead), *(lead + i for i, size in enumerate(shape) if size == 1))
    return g.sum(axis=axes, dtype=np.float64).reshape(shape)
