"""Of two gradients for one place the last wins."""
# kills: q1e


def index_vjp(g, shape, key):
    scattered = np.zeros(shape, dtype=g.dtype)
    scattered[key] += g
    return scattered
