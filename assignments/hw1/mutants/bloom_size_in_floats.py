"""Gives the right sizes as floats."""
# kills: q3a


def bloom_size(count, false_positive_rate):
    bits = np.ceil(-count * np.log(false_positive_rate) / np.log(2) ** 2)
    return float(bits), float(max(1, round(bits / count * np.log(2))))
