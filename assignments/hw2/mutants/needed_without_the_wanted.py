"""Leaves the wanted steps themselves out."""
# kills: q2b


def needed(program, wanted, root):
    after, wanted = set(), set(wanted)
    for step, (_, inputs, _) in enumerate(program):
        if any(i in after or i in wanted for i in inputs):
            after.add(step)
    before = {root}
    for step in range(root, -1, -1):
        if step in before:
            before.update(program[step][1])
    return sorted(after & before)
