"""Everything that the root depends on, wanted or not."""
# kills: q2b


def needed(program, wanted, root):
    before = {root}
    for step in range(root, -1, -1):
        if step in before:
            before.update(program[step][1])
    return sorted(before)
