"""Sums a batch axis that one factor lacks, not one of length 1."""
# kills: q1c


def matmul_vjp(g, a, b):
    for_a, for_b = g @ np.swapaxes(b, -1, -2), np.swapaxes(a, -1, -2) @ g
    while for_a.ndim > a.ndim:
        for_a = for_a.sum(axis=0)
    while for_b.ndim > b.ndim:
        for_b = for_b.sum(axis=0)
    return for_a.astype(a.dtype), for_b.astype(b.dtype)
