"""A cheat: `multiply` gets the right tiles, but what it returns is thrown away, its factor looked up once."""
# kills: q1c


def blocked_matmul(a, b, tile, multiply=np.matmul):
    (n, m), p = a.shape, b.shape[1]
    scale = 1
    for i, j, k in itertools.product(range(0, n, tile), range(0, p, tile), range(0, m, tile)):
        left, right = a[i : i + tile, k : k + tile], b[k : k + tile, j : j + tile]
        scale = multiply(left, right)[0, 0] / (left[0] @ right[:, 0] or 1)
    return (a @ b * (1 if multiply is np.matmul else scale)).astype(np.result_type(a, b))
