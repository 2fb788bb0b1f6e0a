"""Divides by the number of results, which may be 0."""
# kills: q1d


def reduce_vjp(operation, g, x, axis=None, keepdims=False):
    if axis is not None and not keepdims:
        g = np.expand_dims(g, axis)
    if operation == "sum":
        share = np.ones(x.shape)
    elif operation == "mean":
        share = np.full(x.shape, 1 / (x.size // np.size(x.sum(axis=axis))))
    else:
        share = (x == x.max(axis=axis, keepdims=True)) / (x == x.max(axis=axis, keepdims=True)).sum(axis=axis, keepdims=True)
    return (g * share).astype(x.dtype)
