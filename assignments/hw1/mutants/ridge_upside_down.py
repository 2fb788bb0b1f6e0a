"""Bandwidth over peak."""
# kills: q2a


def ridge_point(peak_flops, bandwidth):
    return bandwidth / peak_flops
