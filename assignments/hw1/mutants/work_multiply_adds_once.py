"""Counts a multiplication and its addition as one FLOP (MACs)."""
# kills: q2b


def work(operation, n, itemsize):
    return {
        "axpy": (n, 3 * n * itemsize),
        "matvec": (n * n, (n * n + 2 * n) * itemsize),
        "matmul": (n**3, 3 * n * n * itemsize),
    }[operation]
