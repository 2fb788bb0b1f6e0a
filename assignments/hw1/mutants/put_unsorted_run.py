"""Runs are written in the order of arrival."""
# kills: q3c


def put(tree, key, value):
    tree.memtable[key] = value
    if len(tree.memtable) >= tree.memtable_limit:
        store(tree, list(tree.memtable.items()), level=0)
        tree.memtable = {}
