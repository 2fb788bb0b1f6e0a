"""Marks in a list, which each question searches from its start: quadratic."""
# kills: q2b


def needed(program, wanted, root):
    after, wanted = [], set(wanted)
    for step, (_, inputs, _) in enumerate(program):
        if step in wanted or any(i in after for i in inputs):
            after.append(step)
    before = {root}
    for step in range(root, -1, -1):
        if step in before:
            before.update(program[step][1])
    return sorted(set(after) & before)
