"""axpy reads x and writes y, and forgets that y is read first."""
# kills: q2b


def work(operation, n, itemsize):
    flops = {"axpy": 2 * n, "matvec": 2 * n * n, "matmul": 2 * n**3}[operation]
    words = {"axpy": 2 * n, "matvec": n * n + 2 * n, "matmul": 3 * n * n}[operation]
    return flops, words * itemsize
