"""The cache holds one line more than it has room for."""
# kills: q1a


def count_misses(addresses, line, capacity):
    cache, misses = OrderedDict(), 0
    for address in addresses:
        number = int(address) // line
        if number in cache:
            cache.move_to_end(number)
            continue
        misses += 1
        cache[number] = None
        if len(cache) > capacity + 1:
            cache.popitem(last=False)
    return misses
