"""Visits each step once, by recursion: 1,000 steps are its end."""
# kills: q2a


def gradients(program, values, root, seed, rules):
    found, order, seen = [None] * len(program), [], set()
    found[root] = seed

    def visit(step):
        if step not in seen:
            seen.add(step)
            for i in program[step][1]:
                visit(i)
            order.append(step)

    visit(root)
    for step in reversed(order):
        operation, inputs, options = program[step]
        if inputs:
            parts = rules[operation](found[step], values[step], *(values[i] for i in inputs), **options)
            for i, part in zip(inputs, parts, strict=True):
                part = np.asarray(part, dtype=values[i].dtype)
                found[i] = part if found[i] is None else found[i] + part
    return found
