"""The plain loops, whatever the tile."""
# kills: q1b


def matmul_trace(n, order, tile):
    trace = []
    for step in itertools.product(range(n), repeat=3):
        at = dict(zip(order, step, strict=True))
        i, j, k = at["i"], at["j"], at["k"]
        trace += [i * n + k, n * n + k * n + j, 2 * n * n + i * n + j]
    return trace
