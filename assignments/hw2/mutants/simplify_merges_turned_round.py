"""Takes a + b and b + a for one step."""
# kills: q4b


def simplify(program, root, operations):
    def used(steps, end):
        """The steps that end needs, in order."""
        marked = {end}
        for i in range(end, -1, -1):
            if i in marked:
                marked.update(steps[i][1])
        return sorted(marked)

    new, place, known = [], {}, {}
    for i in used(program, root):
        operation, inputs, options = program[i]
        inputs = tuple(place[j] for j in inputs)
        pure = operation != "random"
        if pure and inputs and all(new[j][0] == "constant" for j in inputs):
            folded = operations[operation](*(new[j][2]["value"] for j in inputs), **options)
            operation, inputs, options = "constant", (), {"value": folded}
        turned = tuple(sorted(inputs)) if operation in ("add", "mul", "maximum") else inputs
        same = (operation, turned, fingerprint(options))
        if pure and same in known:
            place[i] = known[same]
        else:
            place[i] = known[same] = len(new)
            new.append((operation, inputs, options))
    small, number = [], {}
    for i in used(new, place[root]):
        operation, inputs, options = new[i]
        number[i] = len(small)
        small.append((operation, tuple(number[j] for j in inputs), options))
    return small, number[place[root]]
