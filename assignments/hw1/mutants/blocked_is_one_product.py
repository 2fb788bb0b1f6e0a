"""A cheat: one call of NumPy, no tiles."""
# kills: q1c


def blocked_matmul(a, b, tile, multiply=np.matmul):
    return a @ b
