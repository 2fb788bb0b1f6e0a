"""Leaves out that C is written: a tile that is only almost enough passes."""
# kills: q2c


def compute_bound_tile(n, itemsize, peak_flops, bandwidth):
    for tile in range(1, n + 1):
        if n % tile == 0 and tile / itemsize >= peak_flops / bandwidth:
            return tile
    return None
