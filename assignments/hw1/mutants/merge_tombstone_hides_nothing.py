"""Tombstones are left out before the merge, so the value below them comes back."""
# kills: q3b q3d


def merge_runs(runs, drop_tombstones):
    held = {}
    for run in reversed(runs):
        held.update((k, v) for k, v in run if v is not None or not drop_tombstones)
    return sorted(held.items())
