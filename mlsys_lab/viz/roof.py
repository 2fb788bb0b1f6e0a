"""The roofline of one's own machine with operations on it; what a training step holds moment by moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from mlsys_lab._core.style import PALETTE
from mlsys_lab.viz.timeline import UNITS

PARTS = {
    "parameters": PALETTE["compute"],
    "optimiser": PALETTE["communication"],
    "gradients": PALETTE["yours"],
    "activations": PALETTE["memory"],
    "temporaries": PALETTE["idle"],
}


def roofline(machine: Any, points: Iterable[tuple[str, float, float]], *, dtype: str = "float32") -> Any:
    """Draw what a machine can reach at each intensity, and operations under it.

    Args:
        machine: a `capacity.Machine`.
        points: per operation its name, FLOP per byte, and FLOP per second as measured or predicted.
        dtype: whose peak is the flat part of the roof.

    Returns:
        A matplotlib figure; `viz.show` adds its text.
    """
    import matplotlib.pyplot as plt

    points = list(points)
    peak = machine.peak_flops[dtype]
    left = min([0.05, *(x / 2 for _, x, _ in points)])
    right = max([100.0, *(x * 2 for _, x, _ in points)])
    x = np.geomspace(left, right, 200)
    figure, axes = plt.subplots()
    for i, (level, speed) in enumerate(machine.bandwidth.items()):
        roof = np.minimum(x * speed, peak)
        last = i == len(machine.bandwidth) - 1
        axes.loglog(x, roof / 1e9, color=PALETTE["reference"], lw=2 if last else 1, ls="-" if last else ":",
                    label=f"roof from {level}, {speed / 1e9:.0f} GB/s")  # fmt: skip
    for name, intensity, reached in points:
        axes.loglog(intensity, reached / 1e9, "o", color=PALETTE["compute"], label=f"_{name}", gid="said")
        axes.annotate(name, (intensity, reached / 1e9), (5, -4), textcoords="offset points", fontsize=9)
    speed = list(machine.bandwidth.values())[-1]
    axes.set(xlabel="intensity (FLOP/byte)", ylabel="GFLOP/s")
    axes.set_title(
        f"One thread reaches {peak / 1e9:.0f} GFLOP/s in {dtype} from {peak / speed:.1f} FLOP/byte on;\n"
        f"left of this ridge the memory decides"
    )
    axes.legend(loc="lower right", fontsize=9)
    return figure


def step_memory(trace: Any) -> Any:
    """Draw what is alive during the traced steps, by what it is for.

    Args:
        trace: what `capacity.trace` returned.

    Returns:
        A matplotlib figure; `viz.show` adds its text.
    """
    import matplotlib.pyplot as plt

    peak = trace.peak_bytes
    scale, unit = next((s, u) for s, u in UNITS if peak >= s or s == 1)
    layers = {part: np.array(sizes) / scale for part, sizes in _by_part(trace).items()}
    moments = np.arange(len(trace.timeline))
    figure, axes = plt.subplots()
    axes.stackplot(moments, *layers.values(), colors=[PARTS.get(p, "#cccccc") for p in layers], labels=layers,
                   step="post", lw=0)  # fmt: skip
    axes.plot(moments, np.array(trace.timeline) / scale, color=PALETTE["reference"], lw=0.8, label="in all")
    top = trace.timeline.index(peak)
    axes.plot(top, peak / scale, "o", color=PALETTE["reference"], label="peak")
    largest = next(iter(trace.parts_at_peak()))
    axes.set(xlabel="moment (an allocation or a release)", ylabel=unit, ylim=(0, 1.15 * peak / scale))
    axes.set_title(f"The step needs {peak / scale:.4g} {unit} at its peak, most of it {largest}")
    axes.legend(loc="upper left", fontsize=9, ncols=3)
    return figure


def _by_part(trace: Any) -> dict[str, Sequence[int]]:
    """Per part the bytes alive at each moment; what is there all the time first."""
    changes: dict[str, list[int]] = defaultdict(lambda: [0] * (len(trace.timeline) + 2))
    for storage in trace.storages:
        part = storage.part if storage.part in PARTS else "parameters"
        changes[part][storage.born] += storage.bytes
        if storage.died is not None:
            changes[part][storage.died] -= storage.bytes
    return {part: list(accumulate(changes[part]))[: len(trace.timeline)] for part in PARTS if part in changes}
