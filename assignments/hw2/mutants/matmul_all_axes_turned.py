"""Turns all axes round with .T, as for two matrices."""
# kills: q1c


def matmul_vjp(g, a, b):
    return unbroadcast(g @ b.T, a.shape).astype(a.dtype), unbroadcast(a.T @ g, b.shape).astype(b.dtype)
