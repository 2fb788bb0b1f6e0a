"""A float32 array gets a float64 gradient."""
# kills: q1d


def reduce_vjp(operation, g, x, axis=None, keepdims=False):
    if axis is not None and not keepdims:
        g = np.expand_dims(g, axis)
    if operation == "sum":
        share = np.ones(x.shape)
    elif operation == "mean":
        share = np.full(x.shape, np.size(x.sum(axis=axis)) / max(x.size, 1))
    else:
        share = (x == x.max(axis=axis, keepdims=True)) / (x == x.max(axis=axis, keepdims=True)).sum(axis=axis, keepdims=True)
    return g * share
