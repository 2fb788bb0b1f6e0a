"""An input is freed before its last use has run."""
# kills: q4c


def live_bytes(program, sizes, keep):
    last = list(range(len(program)))
    for step, (_, inputs, _) in enumerate(program):
        for i in inputs:
            last[i] = step
    for step in keep:
        last[step] = len(program)
    freed, live, found = [0] * (len(program) + 1), 0, []
    for step, size in enumerate(sizes):
        live += size
        freed[last[step]] += size
        live -= freed[step]
        found.append(live)
    return found
