"""Gives every gradient the dtype of the seed."""
# kills: q2a


def gradients(program, values, root, seed, rules):
    found = [None] * len(program)
    found[root] = seed
    for step in range(root, -1, -1):
        operation, inputs, options = program[step]
        if found[step] is None or not inputs:
            continue
        parts = rules[operation](found[step], values[step], *(values[i] for i in inputs), **options)
        for i, part in zip(inputs, parts, strict=True):
            part = np.asarray(part, dtype=seed.dtype)
            found[i] = part if found[i] is None else found[i] + part
    return found
