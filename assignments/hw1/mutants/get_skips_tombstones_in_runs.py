"""A tombstone in a run counts as not found: the search goes on and finds the deleted value in an older run."""
# kills: q3c q3d


def get(tree, key):
    if key in tree.memtable:
        return tree.memtable[key]
    for level in tree.levels:
        for run in level:
            if may_contain(tree, run, key):
                found, value = tree.disk.find(run.file, key)
                if found and value is not None:
                    return value
    return None
