"""Keeps the first axes that fit the shape rather than the last."""
# kills: q1a


def unbroadcast(g, shape):
    while g.ndim > len(shape):
        g = g.sum(axis=-1 if g.shape[: len(shape)] == shape else 0)
    axes = tuple(i for i, size in enumerate(shape) if size == 1)
    return g.sum(axis=axes, keepdims=True).reshape(shape)
