"""Networks on small devices: accuracy as published, time from a roofline and what measured times say of it.

The ideal time is the larger of arithmetic over the peak and traffic over the bandwidth (Williams et al.
2009), at the width that the weights have. Real ones are longer by a factor that the rows of data/edge.toml
show per kind of work, so a time is an interval; where exactly this network was measured on this device, it is
that figure.
"""

from __future__ import annotations

import difflib
import math
import statistics
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from mlsys_lab._core import hardware
from mlsys_lab._core.hardware import Device
from mlsys_lab.capacity.convnets import ConvNet, convnet
from mlsys_lab.capacity.hf import DATA
from mlsys_lab.capacity.interval import Interval, student_t

BYTES = {"float32": 4.0, "float16": 2.0, "int8": 1.0}
TOP_1 = (
    "ImageNet top-1 of torchvision's first weights (IMAGENET1K_V1; int8: the quantized ones), read 2026-11"
)
#: Repetitions of one measurement on one board differ by about this much; their sources do not say.
REPEATED = Interval(0.9, 1.0, 1.1, "assumed", ("a published time, on another board of the kind",))


@dataclass(frozen=True)
class EdgeDevice(Device):
    """A device with what matters where one image comes at a time.

    Attributes:
        on_chip_bytes: weights up to this size stay on the chip.
        idle_watts: 0 where it is not known.
        usd: what one costs, 0 where no price is written down.
    """

    on_chip_bytes: float = 0.0
    idle_watts: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True)
class Candidate:
    """A network on a device.

    Attributes:
        name: "mobilenet_v2 int8 on Edge TPU".
        accuracy: share of images.
        latency_s, power_w: of one image after another.
        memory_bytes: of the weights.
        cost_usd: of the device.
        source: of the accuracy.
        formula: of the time, with the numbers in it.
    """

    name: str
    accuracy: float
    latency_s: Interval
    power_w: Interval
    memory_bytes: float
    cost_usd: float
    source: str = ""
    formula: str = ""

    @property
    def energy_j(self) -> Interval:
        """Of one image."""
        return self.power_w * self.latency_s

    def values(self) -> dict[str, float]:
        """The numbers to choose by: of an interval its middle, of power the most."""
        return {
            "accuracy": self.accuracy, "latency_s": self.latency_s.mid, "power_w": self.power_w.mid,
            "memory_bytes": self.memory_bytes, "cost_usd": self.cost_usd,
        }  # fmt: skip


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads((DATA / "edge.toml").read_text(encoding="utf-8"))


@cache
def edge_devices() -> dict[str, EdgeDevice]:
    """The small devices that are written down, by name."""
    rows = {name: row for name, row in _data().items() if isinstance(row, dict)}
    return {name: EdgeDevice(name=name, **row) for name, row in rows.items()}


def edge_device(name: str) -> EdgeDevice:
    """A small device by name, or any other one that is known, with its list price unknown.

    Raises:
        ValueError: unknown; the message names the nearest.

    >>> edge_device("edge tpu").watts
    2.0
    """
    plain = {d.lower().replace(" ", ""): d for d in edge_devices()}
    asked = name.lower().replace(" ", "").replace("-", "")
    if asked in plain:
        return edge_devices()[plain[asked]]
    try:
        other = hardware.device(name)
    except ValueError:
        known = [*edge_devices(), *hardware.DEVICES]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(edge_devices())
        raise ValueError(f"unknown device {name!r}; the nearest are {', '.join(near)}") from None
    return EdgeDevice(**{f.name: getattr(other, f.name) for f in fields(Device)})


def ideal_s(
    operations: float, weight_bytes: float, on: EdgeDevice, dtype: str, *, activation_bytes: float = 0.0
) -> tuple[float, str]:
    """The time of one image under the roof, and which roof it is: "compute" or "memory".

    Args:
        operations: two per multiply-add.
        weight_bytes: in `dtype`.
        on: the device.
        dtype: "float32", "float16" or "int8".
        activation_bytes: written and read between layers; a chip that keeps weights keeps them too.

    Raises:
        ValueError: the device has no such arithmetic.
    """
    compute = operations / on.peak(dtype)
    read = max(weight_bytes - on.on_chip_bytes, 0) + (0 if on.on_chip_bytes else activation_bytes)
    memory = read / on.memory_bytes_per_s
    return (compute, "compute") if compute >= memory else (memory, "memory")


def _ideal_of(net: ConvNet, on: EdgeDevice, dtype: str) -> tuple[float, str]:
    """The same for a network, and its kind of work: "depthwise", or "dense" unless it is all "memory"."""
    each = BYTES[dtype]
    outputs = sum(w.shape[0] * (w.positions or 1) for w in net.listed if w.multiplies)
    ideal, roof = ideal_s(
        2 * net.forward_macs, net.parameters * each, on, dtype, activation_bytes=2 * each * outputs
    )
    return ideal, "depthwise" if _filters_channels(net) else "memory" if roof == "memory" else "dense"


def _filters_channels(net: ConvNet) -> bool:
    """Has it convolutions with a filter per channel, which no device runs near its peak?"""
    return any(len(w.shape) == 4 and w.shape[1] == 1 and w.shape[2] > 1 for w in net.listed)


@dataclass(frozen=True)
class Measured:
    """A published time; `network` is "" where it is of another size than the zoo's."""

    device: str
    dtype: str
    network: str
    seconds: float
    kind: str
    slowdown: float
    source: str


@cache
def measured() -> tuple[Measured, ...]:
    """The published times of data/edge.toml, each beside the ideal."""
    rows = []
    for group in _data()["measured"]:
        on, dtype, side = edge_devices()[group["device"]], group["dtype"], group.get("side", 224)
        for name, ms in group["ms"].items():
            if "operations" in group:
                ideal, kind, label = group["operations"][name] / group["peak"], "dense", ""
            else:
                ideal, kind = _ideal_of(convnet(name, image=(3, side, side)), on, dtype)
                label = name if side == convnet(name).image[1] else ""
            rows.append(Measured(on.name, dtype, label, ms / 1e3, kind, ms / 1e3 / ideal, group["source"]))
    return tuple(rows)


def slowdown(on: EdgeDevice, dtype: str, kind: str, *, without: Measured | None = None) -> Interval:
    """How many times the ideal a kind of work takes, from published times.

    Args:
        on: the device.
        dtype: of the weights.
        kind: "memory", "dense" or "depthwise".
        without: a row to leave out, to test the estimate on it.

    Returns:
        The interval that 80 % of further networks fall into. Its middle is that of the rows of this device,
        width and kind ("calibrated"), otherwise of all rows that are depthwise like it, or not ("assumed").
        Its spread is pooled over groups, so that a group of two alike rows still gets an honest width.
    """
    groups: dict[tuple[str, str, str], list[float]] = {}
    rows = [r for r in measured() if r is not without]
    for r in rows:
        groups.setdefault((r.device, r.dtype, r.kind), []).append(math.log(r.slowdown))
    own = groups.get((on.name, dtype, kind), [])
    if own:
        logs, basis = own, "calibrated"
        apart = [v - statistics.fmean(g) for g in groups.values() for v in g]
        freedom = len(apart) - len(groups)
    else:
        logs = [v for k, g in groups.items() for v in g if (k[2] == "depthwise") == (kind == "depthwise")]
        basis = "assumed"
        apart = [v - statistics.fmean(logs) for v in logs]
        freedom = len(apart) - 1
    spread = math.sqrt(sum(a * a for a in apart) / freedom * (1 + 1 / len(logs)))
    mid, reach = statistics.fmean(logs), student_t(0.8, freedom) * spread
    # Nothing beats its own roof, though the ends of a log-normal may.
    low, middle, high = (max(1.0, math.exp(end)) for end in (mid - reach, mid, mid + reach))
    used = (
        r.source
        for r in rows
        if ((r.device, r.dtype, r.kind) == (on.name, dtype, kind) if own
            else (r.kind == "depthwise") == (kind == "depthwise"))
    )  # fmt: skip
    return Interval(low, middle, high, basis, tuple(dict.fromkeys(used)))


def latency_s(net: ConvNet, on: EdgeDevice, dtype: str) -> Interval:
    """Seconds of one image: as measured, else the ideal times the device's slowdown.

    Raises:
        ValueError: an unknown dtype, or one that the device does not have.
    """
    if dtype not in BYTES:
        raise ValueError(f"dtype {dtype!r}: choose one of {', '.join(BYTES)}")
    ideal, kind = _ideal_of(net, on, dtype)
    whole = net.image == convnet(net.name).image
    for row in measured():
        if whole and (row.device, row.dtype, row.network) == (on.name, dtype, net.name):
            ends = REPEATED * row.seconds
            return Interval(ends.low, ends.mid, ends.high, "measured", (row.source,))
    return slowdown(on, dtype, kind) * ideal


def latency_formula(net: ConvNet, on: EdgeDevice, dtype: str) -> str:
    """How a person would write down where `latency_s` comes from."""
    time = latency_s(net, on, dtype)
    if time.basis == "measured":
        return f"measured: {time.mid * 1e3:.4g} ms, give or take 10 % from board to board"
    ideal, kind = _ideal_of(net, on, dtype)
    times = slowdown(on, dtype, kind)
    roof = f"2 x {net.forward_macs:,} multiply-adds / {on.peak(dtype):.4g} per second"
    if kind == "memory" or ideal > 2 * net.forward_macs / on.peak(dtype):
        kept = f" - {on.on_chip_bytes:,.0f} on the chip" if on.on_chip_bytes else " + what layers hand on"
        size = f"{net.parameters * BYTES[dtype]:,.0f} bytes of weights{kept}"
        roof = f"({size}) / {on.memory_bytes_per_s:.4g} B/s"
    ends = f"{times.mid:.3g} ({times.low:.3g} to {times.high:.3g}, {times.basis}, {kind})"
    return f"{roof} = {ideal * 1e3:.4g} ms; x {ends} = {time.mid * 1e3:.4g} ms"


def power_w(on: EdgeDevice) -> Interval:
    """Watts while it works: at most what it is sold for, at least what it draws idle.

    Raises:
        ValueError: none is published.
    """
    if not on.watts:
        raise ValueError(f"{on.name}: its watts are not published, so no limit on power can be checked")
    pi = edge_devices()["Raspberry Pi 4"]
    share = (on.idle_watts or pi.idle_watts / pi.watts * on.watts) / on.watts
    return Interval(share * on.watts, on.watts, on.watts, "assumed",
                    (on.source, "idle where known, else the share of a Raspberry Pi 4"))  # fmt: skip


def candidates(devices: Sequence[EdgeDevice] | None = None) -> tuple[Candidate, ...]:
    """Published networks on small devices, in every width that both have.

    Args:
        devices: by default all that are written down in data/edge.toml.

    Returns:
        Float16 has the accuracy of float32, which it keeps to about a tenth of a point.
    """
    found = []
    for on in edge_devices().values() if devices is None else devices:
        for row in _data()["network"]:
            net = convnet(row["name"])
            for dtype in BYTES:
                has = dtype in on.peaks or (dtype == "float32" and on.float32_flops > 0)
                accuracy = row.get("int8") if dtype == "int8" else row["float32"]
                if has and accuracy is not None:
                    time = latency_s(net, on, dtype)
                    found.append(
                        Candidate(f"{net.name} {dtype} on {on.name}", accuracy, time, power_w(on),
                                  net.parameters * BYTES[dtype], on.usd, TOP_1,
                                  latency_formula(net, on, dtype))
                    )  # fmt: skip
    return tuple(found)
