"""A tombstone counts as not found: the search goes on and finds the deleted value."""
# kills: q3c q3d


def get(tree, key):
    if tree.memtable.get(key) is not None:
        return tree.memtable[key]
    for level in tree.levels:
        for run in level:
            if may_contain(tree, run, key):
                found, value = tree.disk.find(run.file, key)
                if found and value is not None:
                    return value
    return None
