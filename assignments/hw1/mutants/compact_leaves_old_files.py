"""The merged files are never dropped."""
# kills: q3d


def compact(tree):
    for depth, level in enumerate(tree.levels):
        if len(level) < tree.fanout:
            continue
        bottom = not any(tree.levels[depth + 1 :])
        entries = merge_runs([tree.disk.read(run.file) for run in level], drop_tombstones=bottom)
        tree.levels[depth] = []
        if entries:
            store(tree, entries, depth + 1)
