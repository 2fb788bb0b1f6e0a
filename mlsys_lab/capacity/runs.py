"""What share of the peak training reaches, from published runs: model FLOPs utilisation (arXiv 2204.02311,
section 4.1).

A run's utilisation is 6 N D over what its GPU-hours could have done at the dense 16-bit peak. It includes
what projects do not call training: restarts, waiting, failed nodes. So it is lower than a benchmarked
step's, and an estimate from it is an interval.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from mlsys_lab._core.hardware import Device, device
from mlsys_lab.capacity.flops import six_nd
from mlsys_lab.capacity.hf import DATA
from mlsys_lab.capacity.interval import Interval, student_t


@dataclass(frozen=True)
class Run:
    """A published training run; see data/runs.toml."""

    model: str
    family: str
    gpu: str
    parameters: float
    tokens: float
    gpu_hours: float
    source: str
    read: str

    @property
    def mfu(self) -> float:
        """Of the dense 16-bit peak."""
        return six_nd(self.parameters, self.tokens) / (self.gpu_hours * 3600 * device(self.gpu).half_peak())

    @property
    def generation(self) -> str:
        return generation(device(self.gpu))


def generation(d: Device) -> str:
    """Devices whose peak outruns their memory and links alike are calibrated together."""
    if d.name.startswith("A100"):
        return "A100"
    return "H100" if d.name.startswith(("H100", "H200", "H800", "B200", "MI300X")) else d.name


@cache
def published_runs() -> tuple[Run, ...]:
    """All runs that are written down."""
    return tuple(Run(**row) for row in tomllib.loads((DATA / "runs.toml").read_text(encoding="utf-8"))["run"])


def utilisation(on: Device, *, without: Collection[str] = (), share: float = 0.8) -> Interval:
    """The share of the dense 16-bit peak that a whole run on a device reaches.

    The mean of log utilisation is its generation's, each family counted once; its spread is pooled over
    generations, so that a generation with few families still gets an honest width (Student's t).

    Args:
        on: the device.
        without: families that are left out, to test the estimate on one of them.
        share: of further runs that the interval is to cover.
    """
    groups: dict[str, list[float]] = {}
    used = [run for run in published_runs() if run.family not in without]
    for kind in {run.generation for run in used}:
        families = {run.family for run in used if run.generation == kind}
        groups[kind] = [
            sum(logs) / len(logs)
            for family in sorted(families)
            for logs in [[math.log(r.mfu) for r in used if r.generation == kind and r.family == family]]
        ]
    own = groups.get(generation(on))
    values = own or [v for group in groups.values() for v in group]
    centre = sum(values) / len(values)
    logs_of_runs = [(math.log(r.mfu), r.generation) for r in used]
    centres = {k: sum(g) / len(g) for k, g in groups.items()}
    squares = sum((value - (centres[kind] if own else centre)) ** 2 for value, kind in logs_of_runs)
    freedom = max(len(logs_of_runs) - (len(groups) if own else 1), 1)
    reach = student_t(share, freedom) * math.sqrt(squares / freedom * (1 + 1 / len(values)))
    low, mid, high = (math.exp(min(centre + side * reach, 0.0)) for side in (-1, 0, 1))
    return Interval(low, mid, high, "calibrated" if own else "assumed", tuple(run.model for run in used))


def gpu_hours(
    parameters: float,
    tokens: float,
    on: Device,
    *,
    mfu: Interval | float | None = None,
    without: Collection[str] = (),
) -> Interval:
    """GPU-hours of a whole training run: 6 N D over the peak and its utilisation.

    Args:
        parameters: that a token passes through.
        tokens: of the run.
        on: the device.
        mfu: where it is known; by default as published runs on such devices had it.
        without: families to leave out of these.
    """
    if parameters <= 0 or tokens <= 0:
        raise ValueError(f"expected more than zero parameters and tokens, got {parameters:g} and {tokens:g}")
    used = utilisation(on, without=without) if mfu is None else mfu
    return (
        six_nd(parameters, tokens)
        / 3600
        / on.half_peak()
        / (used if isinstance(used, Interval) else Interval.exact(used))
    )
