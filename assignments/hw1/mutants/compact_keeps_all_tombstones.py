"""Tombstones never go, so deleted keys take room for ever."""
# kills: q3d


def compact(tree):
    for depth, level in enumerate(tree.levels):
        if len(level) < tree.fanout:
            continue
        entries = merge_runs([tree.disk.read(run.file) for run in level], drop_tombstones=False)
        tree.levels[depth] = []
        store(tree, entries, depth + 1)
        for run in level:
            tree.disk.drop(run.file)
