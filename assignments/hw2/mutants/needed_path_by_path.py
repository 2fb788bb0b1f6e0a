"""Walks each path by itself."""
# kills: q2b


def needed(program, wanted, root):
    found, stack = set(), [(root,)]
    while stack:
        path = stack.pop()
        if path[-1] in wanted:
            found.update(path)
        stack.extend((*path, i) for i in program[path[-1]][1])
    return sorted(found)
