"""The result is always float64."""
# kills: q1c


def blocked_matmul(a, b, tile, multiply=np.matmul):
    (n, m), p = a.shape, b.shape[1]
    c = np.zeros((n, p))
    for i in range(0, n, tile):
        for j in range(0, p, tile):
            for k in range(0, m, tile):
                c[i : i + tile, j : j + tile] += multiply(
                    a[i : i + tile, k : k + tile], b[k : k + tile, j : j + tile]
                ).real
    return c
