"""Counts axes from the front only."""
# kills: q1d


def reduce_vjp(operation, g, x, axis=None, keepdims=False):
    axes = range(x.ndim) if axis is None else np.atleast_1d(axis).tolist()
    kept = [1 if i in axes else s for i, s in enumerate(x.shape)]
    if operation == "sum":
        share = np.ones(x.shape)
    elif operation == "mean":
        share = np.ones(x.shape) / max(math.prod(x.shape[i] for i in axes), 1)
    else:
        hit = x == x.max(axis=axis, keepdims=True)
        share = hit / hit.sum(axis=axis, keepdims=True)
    return (np.reshape(g, kept) * share).astype(x.dtype)
