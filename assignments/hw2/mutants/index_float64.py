"""Starts from float64 zeros."""
# kills: q1e


def index_vjp(g, shape, key):
    scattered = np.zeros(shape)
    np.add.at(scattered, key, g)
    return scattered
