"""Loops over whole tiles only: the edges of C stay zero."""
# kills: q1c


def blocked_matmul(a, b, tile, multiply=np.matmul):
    (n, m), p = a.shape, b.shape[1]
    c = np.zeros((n, p), dtype=np.result_type(a, b))
    for i in range(n // tile):
        for j in range(p // tile):
            for k in range(m // tile):
                r, s, t = (slice(x * tile, (x + 1) * tile) for x in (i, j, k))
                c[r, s] += multiply(a[r, t], b[t, s])
    return c
