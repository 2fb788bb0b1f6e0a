"""Rounds the number of hashes to none where the filter is small."""
# kills: q3a


def bloom_size(count, false_positive_rate):
    bits = math.ceil(-count * math.log(false_positive_rate) / math.log(2) ** 2)
    return bits, round(bits / count * math.log(2))
