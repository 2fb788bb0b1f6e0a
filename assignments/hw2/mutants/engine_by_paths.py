"""Walks along every path: right, and never done where values are used often."""
# kills: q2a


def gradients(program, values, root, seed, rules):
    found, stack = [None] * len(program), [(root, seed)]
    while stack:
        step, g = stack.pop()
        g = np.asarray(g, dtype=values[step].dtype)
        found[step] = g if found[step] is None else found[step] + g
        operation, inputs, options = program[step]
        if inputs:
            parts = rules[operation](g, values[step], *(values[i] for i in inputs), **options)
            stack.extend(zip(inputs, parts, strict=True))
    return found
