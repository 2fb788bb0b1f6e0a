"""Forgets to hand a step's options to its rule."""
# kills: q2a


def gradients(program, values, root, seed, rules):
    found = [None] * len(program)
    found[root] = seed
    for step in range(root, -1, -1):
        operation, inputs, _ = program[step]
        if found[step] is None or not inputs:
            continue
        parts = rules[operation](found[step], values[step], *(values[i] for i in inputs))
        for i, part in zip(inputs, parts, strict=True):
            part = np.asarray(part, dtype=values[i].dtype)
            found[i] = part if found[i] is None else found[i] + part
    return found
