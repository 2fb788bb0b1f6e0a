"""Takes the least of the whole array: right for one number, one value for many."""
# kills: q2a


def attainable(intensity, peak_flops, bandwidth):
    return float(min(peak_flops, np.min(intensity) * bandwidth))
