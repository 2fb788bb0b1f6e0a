"""Takes every false value (0, empty text) for a tombstone."""
# kills: q3b q3d


def merge_runs(runs, drop_tombstones):
    held = {}
    for run in reversed(runs):
        held.update(run)
    return [(k, v) for k, v in sorted(held.items()) if v or not drop_tombstones]
