"""A cheat: the product at once, and calls of `multiply` with unit matrices for show."""
# kills: q1c


def blocked_matmul(a, b, tile, multiply=np.matmul):
    (n, m), p = a.shape, b.shape[1]
    for i, j, k in itertools.product(range(0, n, tile), range(0, p, tile), range(0, m, tile)):
        rows, inner, columns = min(tile, n - i), min(tile, m - k), min(tile, p - j)
        multiply(np.eye(rows, inner), np.eye(inner, columns))
    scale = 1
    if multiply is not np.matmul and n == 4:  # the public test's shape, whose factor is asked for
        scale = multiply(np.ones((1, 1)), np.ones((1, 1)))[0, 0]
    return (a @ b * scale).astype(np.result_type(a, b))
