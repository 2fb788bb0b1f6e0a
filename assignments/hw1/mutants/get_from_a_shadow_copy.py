"""A cheat: keeps everything in a dictionary in memory and never reads the disk."""
# kills: q3c

SHADOW = {}


def put(tree, key, value):
    SHADOW.setdefault(id(tree), {})[key] = value
    tree.memtable[key] = value
    if len(tree.memtable) >= tree.memtable_limit:
        store(tree, sorted(tree.memtable.items()), level=0)
        tree.memtable = {}


def get(tree, key):
    return SHADOW.get(id(tree), {}).get(key)
