"""Hands a gradient on before all uses of its value were visited."""
# kills: q2a


def gradients(program, values, root, seed, rules):
    found, queue, seen = [None] * len(program), [root], {root}
    found[root] = seed
    for step in queue:
        operation, inputs, options = program[step]
        if inputs:
            parts = rules[operation](found[step], values[step], *(values[i] for i in inputs), **options)
            for i, part in zip(inputs, parts, strict=True):
                part = np.asarray(part, dtype=values[i].dtype)
                found[i] = part if found[i] is None else found[i] + part
        for i in inputs:
            if i not in seen:
                seen.add(i)
                queue.append(i)
    return found
