"""Built with one hash fewer than it is asked with: keys that went in are denied."""
# kills: q3a q3c


def bloom_build(keys, bits, hashes):
    bloom = np.zeros(bits, dtype=bool)
    bloom[hash_positions(keys, hashes - 1, bits)] = True
    return bloom
