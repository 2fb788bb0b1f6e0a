"""Looks through all visited steps for those that use a value: quadratic."""
# kills: q2a


def gradients(program, values, root, seed, rules):
    found = [None] * len(program)
    found[root] = seed
    order = [root]
    for step in range(root, -1, -1):
        operation, inputs, options = program[step]
        if step != root:
            if not [user for user in order if step in program[user][1]]:
                continue
            order.append(step)
        if not inputs:
            continue
        parts = rules[operation](found[step], values[step], *(values[i] for i in inputs), **options)
        for i, part in zip(inputs, parts, strict=True):
            part = np.asarray(part, dtype=values[i].dtype)
            found[i] = part if found[i] is None else found[i] + part
    return found
