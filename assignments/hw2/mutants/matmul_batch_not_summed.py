"""Forgets that a batch axis was repeated."""
# kills: q1c


def matmul_vjp(g, a, b):
    for_a, for_b = g @ np.swapaxes(b, -1, -2), np.swapaxes(a, -1, -2) @ g
    return for_a.astype(a.dtype), for_b.astype(b.dtype)
