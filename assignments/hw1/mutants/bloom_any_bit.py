"""One set bit is enough to say perhaps: the filter lets almost everything through."""
# kills: q3a q3c


def might_hold(bloom, keys, hashes):
    return bloom[hash_positions(keys, hashes, bloom.size)].any(axis=1)
