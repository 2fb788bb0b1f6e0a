"""Sums over axes of length 1 and forgets new axes in front."""
# kills: q1a


def unbroadcast(g, shape):
    for axis, size in enumerate(shape):
        if size == 1 and g.ndim == len(shape):
            g = g.sum(axis=axis, keepdims=True)
    return g if g.shape == shape else g.mean(axis=0)
