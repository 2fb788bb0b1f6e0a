"""max: what is nearly the largest gets a share."""
# kills: q1d


def reduce_vjp(operation, g, x, axis=None, keepdims=False):
    axes = range(x.ndim) if axis is None else np.atleast_1d(axis) % max(x.ndim, 1)
    kept = [1 if place in axes else size for place, size in enumerate(x.shape)]
    if operation == "sum":
        share = np.ones(x.shape)
    elif operation == "mean":
        share = np.ones(x.shape) / max(math.prod(x.shape[place] for place in axes), 1)
    else:
        largest = np.isclose(x, x.max(axis=axis, keepdims=True))
        share = largest / largest.sum(axis=axis, keepdims=True)
    return (np.reshape(g, kept) * share).astype(x.dtype)
