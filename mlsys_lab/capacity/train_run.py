"""A whole training run: how long, how many GPU-hours, what rent; intervals with the rows they stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlsys_lab._core.hardware import Device
from mlsys_lab.capacity.costs import cost_usd, rent
from mlsys_lab.capacity.flops import six_nd
from mlsys_lab.capacity.interval import Interval
from mlsys_lab.capacity.models import Counts
from mlsys_lab.capacity.runs import gpu_hours, utilisation


@dataclass(frozen=True)
class TrainingRun:
    """The answer.

    Attributes:
        time_s: seconds on all GPUs together.
        gpu_hours: of all of them.
        mfu: the share of the dense 16-bit peak that was assumed.
        flops: 6 N D, of the parameters that a token passes through.
        cost_usd: of the rent, None where no price is known.
    """

    time_s: Interval
    gpu_hours: Interval
    mfu: Interval
    flops: float
    cost_usd: Interval | None

    def to_json(self) -> dict[str, Any]:
        table: dict[str, Any] = {"flops": self.flops}
        for name in ("time_s", "gpu_hours", "mfu", "cost_usd"):
            value = getattr(self, name)
            table[name] = None if value is None else value.to_json()
        return table


def training_run(
    m: Counts, tokens: float, on: Device, gpus: int, *, mfu: Interval | float | None = None,
    usd_per_hour: Interval | float | None = None,
) -> TrainingRun:  # fmt: skip
    """Time, GPU-hours and rent of training a model.

    Args:
        m: the model; its active parameters count.
        tokens: that it is trained on.
        on: the GPU.
        gpus: how many of them.
        mfu: where it is known (of a measured or an estimated step); by default as published runs had it.
        usd_per_hour: per GPU; by default between the cheapest and the dearest seller written down.

    Raises:
        ValueError: tokens or GPUs are not above zero.
    """
    if gpus < 1:
        raise ValueError(f"expected at least 1 GPU, got {gpus}")
    used = utilisation(on) if mfu is None else mfu if isinstance(mfu, Interval) else Interval.exact(mfu)
    if not 0 < used.low <= used.high <= 1:
        raise ValueError(f"a utilisation lies above 0 and at most at 1, got {used.low:g} to {used.high:g}")
    hours = gpu_hours(m.active_parameters, tokens, on, mfu=used)
    price = usd_per_hour if usd_per_hour is not None else (rent(on) if on.usd_per_hour[1] else None)
    cost = None if price is None else cost_usd(hours, price)
    return TrainingRun(hours * (3600 / gpus), hours, used, six_nd(m.active_parameters, tokens), cost)
