"""One plus the logarithm: exact only where runs fill up evenly."""
# kills: q3e


def write_amplification(n, memtable_limit, fanout):
    if n < memtable_limit:
        return 0.0
    return 1.0 + math.floor(math.log(n / memtable_limit, fanout) + 1e-9)
