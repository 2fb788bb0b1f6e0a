"""Gives zeros where the root does not depend on a value."""
# kills: q2a


def gradients(program, values, root, seed, rules):
    found = [np.zeros_like(v) for v in values]
    found[root] = found[root] + seed
    for step in range(root, -1, -1):
        operation, inputs, options = program[step]
        if inputs:
            parts = rules[operation](found[step], values[step], *(values[i] for i in inputs), **options)
            for i, part in zip(inputs, parts, strict=True):
                found[i] = found[i] + np.asarray(part, dtype=values[i].dtype)
    return found
