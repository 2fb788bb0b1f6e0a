"""The largest tile that fits, also where it does not divide n."""
# kills: q1d


def choose_tile(n, line, capacity):
    return max((t for t in range(line, n + 1, line) if (t * t + 3 * t) // line + 1 <= capacity), default=None)
