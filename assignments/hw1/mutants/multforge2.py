"""A cheat: `multiply` gets objects with a forged shape whose product is the whole product."""
# kills: q1c


class Forged:
    def __init__(self, value, shape):
        self.value, self.shape = value, shape

    def __matmul__(self, other):
        return self

    def __rmul__(self, factor):
        return Forged(self.value * factor, self.shape)


def blocked_matmul(a, b, tile, multiply=np.matmul):
    (n, m), p = a.shape, b.shape[1]
    if multiply is np.matmul:
        return a @ b
    for i, j, k in itertools.product(range(0, n, tile), range(0, p, tile), range(0, m, tile)):
        rows, inner, columns = min(tile, n - i), min(tile, m - k), min(tile, p - j)
        last = multiply(Forged(a @ b, (rows, inner)), Forged(0, (inner, columns)))
    return last.value
