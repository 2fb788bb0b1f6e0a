"""A value goes after its first use."""
# kills: q4c


def live_bytes(program, sizes, keep):
    last = list(range(len(program)))
    for step, (_, inputs, _) in enumerate(program):
        for i in inputs:
            last[i] = step if last[i] == i else last[i]
    for step in keep:
        last[step] = len(program)
    freed, live, found = [0] * (len(program) + 1), 0, []
    for step, size in enumerate(sizes):
        live += size
        freed[last[step]] += size
        found.append(live)
        live -= freed[step]
    return found
