"""Without keepdims g goes where broadcasting puts it: right for axis 0 alone."""
# kills: q1d


def reduce_vjp(operation, g, x, axis=None, keepdims=False):
    if operation == "mean":
        g = g * (np.size(x.sum(axis=axis)) / max(x.size, 1))
    if operation == "max":
        hit = x == x.max(axis=axis, keepdims=True)
        return (g * (hit / hit.sum(axis=axis, keepdims=True))).astype(x.dtype)
    return (np.ones(x.shape) * g).astype(x.dtype)
