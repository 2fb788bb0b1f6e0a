"""A hit does not make a line young again: the oldest line goes (FIFO)."""
# kills: q1a


def count_misses(addresses, line, capacity):
    cache, misses = [], 0
    for address in addresses:
        number = int(address) // line
        if number not in cache:
            misses += 1
            cache.append(number)
            if len(cache) > capacity:
                cache.pop(0)
    return misses
