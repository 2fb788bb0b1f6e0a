"""A cheat: knows the public traces by heart, guesses compulsory misses for others."""
# kills: q1a


def count_misses(addresses, line, capacity):
    known = {
        (4, 8, 1): 3,
        (32, 8, 4): 4,
        (12, 9, 4): 4,
        (3, 1, 1): 1,
        (6, 4, 3): 4,
        (6, 4, 2): 4,
        (12, 4, 3): 12,
    }
    return known.get((len(addresses), line, capacity), len({int(a) // line for a in addresses}))
