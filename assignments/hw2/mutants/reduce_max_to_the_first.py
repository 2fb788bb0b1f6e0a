"""max: the first of several largest gets everything."""
# kills: q1d


def reduce_vjp(operation, g, x, axis=None, keepdims=False):
    axes = tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in np.atleast_1d(axis).astype(int))
    g = np.reshape(g, [1 if i in axes else s for i, s in enumerate(x.shape)])
    if operation == "sum":
        share = np.ones(x.shape)
    elif operation == "mean":
        share = np.ones(x.shape) / max(math.prod(x.shape[i] for i in axes), 1)
    else:
        order = [i for i in range(x.ndim) if i not in axes] + list(axes)
        moved = np.transpose(x, order)
        flat = moved.reshape(math.prod(x.shape[i] for i in order[: x.ndim - len(axes)]), -1)
        share = np.zeros(flat.shape)
        if flat.size:
            share[np.arange(len(flat)), flat.argmax(axis=1)] = 1
        share = np.transpose(share.reshape(moved.shape), np.argsort(order).astype(int))
    return (g * share).astype(x.dtype)
