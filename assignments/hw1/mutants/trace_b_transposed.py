"""B is addressed as if it were stored column by column."""
# kills: q1b


def matmul_trace(n, order, tile):
    trace = []
    for corner in itertools.product(range(0, n, tile), repeat=3):
        for step in itertools.product(*[range(s, min(s + tile, n)) for s in corner]):
            at = dict(zip(order, step, strict=True))
            i, j, k = at["i"], at["j"], at["k"]
            trace += [i * n + k, n * n + j * n + k, 2 * n * n + i * n + j]
    return trace
