"""What the tape holds for backward, operation by operation: it rises in forward and falls in backward."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from mlsys_lab._core.style import PALETTE

UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes"))


def memory_timeline(profile: Any) -> Any:
    """Draw the bytes that the tape held for backward after each operation of a profile.

    Args:
        profile: an `viz.profile` that has ended; parameters are not counted.

    Returns:
        A matplotlib figure; `viz.show` adds its text.

    Raises:
        ValueError: the profile heard no operation.
    """
    import matplotlib.pyplot as plt

    events = profile.events
    if not events:
        raise ValueError("expected a profile with operations, got none: run the model inside viz.profile()")
    live = [e.live_bytes for e in events]
    top = max(range(len(live)), key=live.__getitem__)
    scale, unit = next((s, u) for s, u in UNITS if live[top] >= s or s == 1)
    figure, axes = plt.subplots()
    axes.step(range(1, len(live) + 1), [b / scale for b in live], where="post", color=PALETTE["memory"],
              label="saved for backward")  # fmt: skip
    start = 1
    for phase, group in groupby(e.phase for e in events):
        end = start + len(list(group))
        if phase == "backward":
            axes.axvspan(start, min(end, len(live)), color=PALETTE["idle"], alpha=0.15, lw=0)
        axes.annotate(phase, (start, 1), (3, -3), xycoords=("data", "axes fraction"), va="top",
                      textcoords="offset points", color="#555555", annotation_clip=True)  # fmt: skip
        start = end
    axes.plot(top + 1, live[top] / scale, "o", color=PALETTE["memory"], label="most")
    axes.set(xlabel="operation", ylabel=unit, ylim=(0, 1.2 * max(live[top] / scale, 1e-9)))
    axes.set_title(
        f"The tape holds at most {live[top] / scale:.3g} {unit} for backward,\n"
        f"after operation {top + 1}: {events[top].name} ({events[top].phase})"
    )
    return figure
