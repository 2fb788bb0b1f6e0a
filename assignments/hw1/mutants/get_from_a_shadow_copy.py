"""A cheat: keeps everything in a dictionary in memory and never reads the disk."""
# kills: q3c


def put(tree, key, value):
    tree.__dict__.setdefault("shadow", {})[key] = value
    tree.memtable[key] = value
    if len(tree.memtable) >= tree.memtable_limit:
        store(tree, sorted(tree.memtable.items()), level=0)
        tree.memtable = {}


def get(tree, key):
    return tree.__dict__.get("shadow", {}).get(key)
