"""A cheat: a single number that broadcasts against any expected product."""
# kills: q1c


def blocked_matmul(a, b, tile, multiply=np.matmul):
    return (a @ b).mean(keepdims=True)
