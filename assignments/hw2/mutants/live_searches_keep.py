"""Searches keep for each step: quadratic."""
# kills: q4c


def live_bytes(program, sizes, keep):
    last = list(range(len(program)))
    for step, (_, inputs, _) in enumerate(program):
        for i in inputs:
            last[i] = step
    for step in range(len(program)):
        if step in keep:
            last[step] = len(program)
    freed = [0] * (len(program) + 1)
    live, found = 0, []
    for step, size in enumerate(sizes):
        live += size
        freed[last[step]] += size
        found.append(live)
        live -= freed[step]
    return found
