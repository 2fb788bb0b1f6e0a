"""Knows tables of row numbers and nothing else."""
# kills: q1e


def index_vjp(g, shape, key):
    scattered = np.zeros(shape, dtype=g.dtype)
    if isinstance(key, np.ndarray) and key.dtype != bool:
        for row, part in zip(key.ravel(), g.reshape(key.size, *shape[1:]), strict=True):
            scattered[row] += part
    else:
        scattered[key] = g
    return scattered
