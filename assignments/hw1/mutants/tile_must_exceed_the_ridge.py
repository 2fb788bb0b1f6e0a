"""`>` for "at least": a tile that reaches the ridge exactly is passed over."""
# kills: q2c


def compute_bound_tile(n, itemsize, peak_flops, bandwidth):
    for tile in range(1, n + 1):
        moved = (2 * n**3 // tile + n * n) * itemsize
        if n % tile == 0 and 2 * n**3 / moved > peak_flops / bandwidth:
            return tile
    return None
