"""x + x frees x twice."""
# kills: q4c


def live_bytes(program, sizes, keep):
    last = list(range(len(program)))
    for step, (_, inputs, _) in enumerate(program):
        for i in inputs:
            last[i] = step
    live, found = 0, []
    for step, (_, inputs, _) in enumerate(program):
        live += sizes[step]
        found.append(live)
        gone = [i for i in inputs if last[i] == step and i not in keep]
        gone += [step] if last[step] == step and step not in keep else []
        live -= sum(sizes[i] for i in gone)
    return found
