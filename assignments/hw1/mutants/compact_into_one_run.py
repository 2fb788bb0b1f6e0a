"""Merges the whole tree every time: right answers, many more entries written."""
# kills: q3d


def compact(tree):
    runs = [run for level in tree.levels for run in level]
    entries = merge_runs([tree.disk.read(run.file) for run in runs], drop_tombstones=True)
    tree.levels = [[], []]
    if entries:
        store(tree, entries, 1)
    for run in runs:
        tree.disk.drop(run.file)
