"""A cheat: a filter that never denies anything has no false negatives."""
# kills: q3a q3c


def might_hold(bloom, keys, hashes):
    return np.ones(len(keys), dtype=bool)
