"""Asks that three whole tiles fit, so the tile is too small."""
# kills: q1d


def choose_tile(n, line, capacity):
    tiles = (t for t in range(line, n + 1, line) if n % t == 0)
    return max((t for t in tiles if 3 * t * t // line <= capacity), default=None)
