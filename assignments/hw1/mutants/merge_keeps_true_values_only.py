"""`if value` for `if value is not None`, also where tombstones are kept: 0 and empty text are lost."""
# kills: q3b q3d


def merge_runs(runs, drop_tombstones):
    held = {}
    for run in reversed(runs):
        held.update(run)
    return [(k, v) for k, v in sorted(held.items()) if v or (v is None and not drop_tombstones)]
