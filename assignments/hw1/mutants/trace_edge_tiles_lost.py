"""Only whole tiles are walked: the edges are lost where the tile does not divide."""
# kills: q1b


def matmul_trace(n, order, tile):
    trace = []
    for corner in itertools.product(range(0, n - tile + 1, tile), repeat=3):
        for step in itertools.product(*[range(s, s + tile) for s in corner]):
            at = dict(zip(order, step, strict=True))
            i, j, k = at["i"], at["j"], at["k"]
            trace += [i * n + k, n * n + k * n + j, 2 * n * n + i * n + j]
    return trace
