"""Time of single operations on a GPU from two calibrated efficiencies: a large GEMM's and an all-reduce's.

The rows stand in data/runs.toml with their sources. A product overlaps its arithmetic with its traffic more
or less: low is perfect overlap, high none, mid the root of the sum of squares.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection
from functools import cache
from typing import Any

from mlsys_lab._core.hardware import Device, device
from mlsys_lab.capacity.hf import DATA
from mlsys_lab.capacity.interval import Interval
from mlsys_lab.capacity.runs import generation

#: Share of the memory's peak that element-wise kernels reach: STREAM-like kernels 0.7 to 0.9 of the
#: datasheet's.
STREAMING = Interval(
    0.70, 0.80, 0.90, "assumed", ("streaming kernels reach 70 to 90 % of a datasheet's bandwidth",)
)

#: GEMMs of one training step are not all of the calibrated shape: smaller ones reach less, larger ones more
#: (up to
#: about 0.8 of an A100's peak, where the calibrated one reaches 0.70).
SHAPES = Interval(0.85, 1.0, 1.15, "assumed", ("shapes other than the calibrated GEMM's",))


@cache
def _measured() -> dict[str, Any]:
    return tomllib.loads((DATA / "runs.toml").read_text(encoding="utf-8"))


def gemm_efficiency(on: Device, *, without: Collection[str] = ()) -> Interval:
    """Share of the dense peak that large products reach, from the row of this generation, else from all rows.

    Args:
        on: the device.
        without: GPUs whose row is left out, to test the estimate on it.
    """
    rows = [r for r in _measured()["gemm"] if r["gpu"] not in without]
    own = [r for r in rows if r["gpu"] == generation(on)]
    shares = [2 * r["m"] * r["k"] * r["n"] / r["seconds"] / device(r["gpu"]).half_peak() for r in own or rows]
    mid = sum(shares) / len(shares)
    basis = "calibrated" if own else "assumed"
    return Interval(min(shares), mid, max(shares), basis, tuple(r["source"] for r in own or rows)) * SHAPES


def gemm_s(
    m: int, k: int, n: int, on: Device, *, dtype_bytes: float = 2, without: Collection[str] = ()
) -> Interval:
    """Seconds of a 16-bit product of (m, k) and (k, n)."""
    if min(m, k, n) < 1:
        raise ValueError(f"expected sizes of at least 1, got {m} x {k} x {n}")
    products = 2.0 * m * k * n / on.half_peak() / gemm_efficiency(on, without=without)
    traffic = dtype_bytes * (m * k + k * n + m * n) / on.memory_bytes_per_s / STREAMING
    both = products + traffic
    low = max(products.low, traffic.low)
    return Interval(low, math.hypot(products.mid, traffic.mid), both.high, both.basis, both.rows)


@cache
def link_efficiency() -> Interval:
    """Share of a link's one-way bandwidth that a ring all-reduce reaches."""
    rows = _measured()["all_reduce"]
    shares = [
        2
        * (r["ranks"] - 1)
        / r["ranks"]
        * r["bytes"]
        / r["seconds"]
        / (device(r["gpu"]).link_bytes_per_s / 2)
        for r in rows
    ]
    mid = sum(shares) / len(shares)
    return Interval(0.8 * mid, mid, min(1.0, 1.4 * mid), "calibrated", tuple(r["source"] for r in rows))


def all_reduce_s(size: float, ranks: int, bytes_per_s: float | Interval) -> Interval:
    """Seconds of a ring all-reduce of `size` bytes over `ranks`, latency left out.

    Args:
        size: bytes of the tensor.
        ranks: that take part.
        bytes_per_s: one way, of each rank.
    """
    if size <= 0 or ranks < 1:
        raise ValueError(f"expected bytes and ranks above zero, got {size:g} and {ranks}")
    return Interval.exact(2 * (ranks - 1) / ranks * size) / bytes_per_s
