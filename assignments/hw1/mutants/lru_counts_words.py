"""The cache keeps words instead of lines."""
# kills: q1a


def count_misses(addresses, line, capacity):
    cache, misses = OrderedDict(), 0
    for address in addresses:
        misses += address not in cache
        cache[address] = None
        cache.move_to_end(address)
        if len(cache) > capacity * line:
            cache.popitem(last=False)
    return misses
