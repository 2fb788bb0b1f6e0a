"""Everything that depends on a wanted step, needed by the root or not."""
# kills: q2b


def needed(program, wanted, root):
    after, wanted = set(), set(wanted)
    for step in range(root + 1):
        if step in wanted or any(i in after for i in program[step][1]):
            after.add(step)
    return sorted(after)
