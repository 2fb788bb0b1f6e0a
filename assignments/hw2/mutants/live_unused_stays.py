"""A value that no step uses stays to the end."""
# kills: q4c


def live_bytes(program, sizes, keep):
    last = [len(program)] * len(program)
    for step, (_, inputs, _) in enumerate(program):
        for i in inputs:
            last[i] = step
    for step in keep:
        last[step] = len(program)
    freed, live, found = [0] * (len(program) + 1), 0, []
    for step, size in enumerate(sizes):
        live += size
        freed[last[step]] += size
        found.append(live)
        live -= freed[step]
    return found
