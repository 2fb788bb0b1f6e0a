"""Searches the list of wanted steps for each step: quadratic."""
# kills: q2b


def needed(program, wanted, root):
    after = set()
    for step, (_, inputs, _) in enumerate(program):
        if step in wanted or any(i in after for i in inputs):
            after.add(step)
    before = {root}
    for step in range(root, -1, -1):
        if step in before:
            before.update(program[step][1])
    return sorted(after & before)
