"""A tombstone in the memtable counts as not found: the search goes on and finds the deleted value in a run."""
# kills: q3c q3d


def get(tree, key):
    value = tree.memtable.get(key)
    if value is not None:
        return value
    for level in tree.levels:
        for run in level:
            if may_contain(tree, run, key):
                found, value = tree.disk.find(run.file, key)
                if found:
                    return value
    return None
