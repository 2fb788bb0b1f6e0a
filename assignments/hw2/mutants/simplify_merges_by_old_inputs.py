"""Compares inputs as they were before merging."""
# kills: q4b


def simplify(program, root, operations):
    def used(steps, end):
        marked = {end}
        for i in range(end, -1, -1):
            if i in marked:
                marked.update(steps[i][1])
        return sorted(marked)

    new, place, known = [], {}, {}
    for i in used(program, root):
        operation, inputs, options = program[i]
        inputs = tuple(place[j] for j in inputs)
        if operation != "random" and inputs and all(new[j][0] == "constant" for j in inputs):
            folded = operations[operation](*(new[j][2]["value"] for j in inputs), **options)
            operation, inputs, options = "constant", (), {"value": folded}
        same = (operation, tuple(program[i][1]), fingerprint(options))
        if operation != "random" and same in known:
            place[i] = known[same]
        else:
            place[i] = known[same] = len(new)
            new.append((operation, inputs, options))
    kept = used(new, place[root])
    number = {old: fresh for fresh, old in enumerate(kept)}
    return [(new[i][0], tuple(number[j] for j in new[i][1]), new[i][2]) for i in kept], number[place[root]]
