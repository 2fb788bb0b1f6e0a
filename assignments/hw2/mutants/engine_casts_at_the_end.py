"""Sets the dtypes when all is done: until then rules are handed what other rules gave."""
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
            found[i] = part if found[i] is None else found[i] + part
    return [f if f is None else np.asarray(f, v.dtype) for f, v in zip(found, values, strict=True)]
