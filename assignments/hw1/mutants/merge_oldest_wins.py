"""Runs are applied newest first, so the oldest value stays."""
# kills: q3b q3d


def merge_runs(runs, drop_tombstones):
    held = {}
    for run in runs:
        held.update(run)
    return [(k, v) for k, v in sorted(held.items()) if v is not None or not drop_tombstones]
