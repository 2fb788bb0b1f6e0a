"""The roof of a device or of one's own machine, and a model's operations under it.

Williams, Waterman, Patterson 2009: no operation is faster than the peak, nor than its FLOPs per byte times
the bandwidth. Bytes are those that must move: each weight, input and output once, as if caches were ideal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlsys_lab._core.hardware import DTYPES, Device
from mlsys_lab._core.quantity import show
from mlsys_lab.capacity.answers import Answer
from mlsys_lab.capacity.machine import Machine
from mlsys_lab.capacity.models import ModelSpec
from mlsys_lab.capacity.weights import Weight

BYTES = {"float64": 8, "float32": 4, "tf32": 4, "bfloat16": 2, "float16": 2, "float8": 1, "int8": 1}


@dataclass(frozen=True)
class Placed:
    """An operation, all layers together.

    Attributes:
        name: `decode: mlp`.
        flops, bytes: of one pass.
        reached: FLOP per second where it was measured or predicted from measurements, 0 where not.
    """

    name: str
    flops: float
    bytes: float
    reached: float = 0.0

    @property
    def intensity(self) -> float:
        return self.flops / self.bytes


@dataclass(frozen=True)
class Roof:
    """What a device can do at most.

    Attributes:
        peaks: FLOP per second by dtype; bandwidths: bytes per second by level, the memory last.
        source: of the figures.
    """

    name: str
    peaks: Mapping[str, float]
    bandwidths: Mapping[str, float]
    source: str

    @classmethod
    def of(cls, what: Device | Machine) -> Roof:
        """A device's as its maker prints it, a machine's as it was measured.

        Raises:
            ValueError: no bandwidth is written down for the device.
        """
        if isinstance(what, Machine):
            source = f"measured in one thread, by CPU time, on {what.date}"
            fastest = max(
                (p.reached for p in measured_products(what)), default=0.0
            )  # nothing is above a roof
            peaks = {k: max(v, fastest) if k == "float32" else v for k, v in what.peak_flops.items()}
            return cls(what.name, peaks, what.bandwidth, source)
        if not what.memory_bytes_per_s:
            raise ValueError(f"no memory bandwidth is written down for {what.name}")
        own = {"float32": what.float32_flops} if what.float32_flops else {}
        return cls(what.name, own | dict(what.peaks), {"memory": what.memory_bytes_per_s}, what.source)

    @property
    def bandwidth(self) -> float:
        """Of the memory."""
        return list(self.bandwidths.values())[-1]

    def peak(self, dtype: str) -> float:
        """Of a dtype, also in its short name.

        Raises:
            ValueError: it has none; the message names those that it has.
        """
        name = DTYPES.get(dtype, dtype)
        if name not in self.peaks:
            raise ValueError(f"{self.name} has no peak for {dtype}; it has {', '.join(self.peaks)}")
        return self.peaks[name]

    def ridge(self, dtype: str) -> float:
        """FLOP per byte from which on arithmetic decides."""
        return self.peak(dtype) / self.bandwidth

    def most(self, intensity: float, dtype: str) -> float:
        """FLOP per second that an operation can reach at most."""
        return min(self.peak(dtype), intensity * self.bandwidth)


def operations_of_passes(m: ModelSpec, batch: int, context: int, wide: float) -> list[Placed]:
    """The parts of a model in a forward pass of whole sequences and, of a decoder, in a decode step.

    Args:
        m: the model.
        batch: sequences.
        context: tokens of each; of a decode step, in the cache.
        wide: bytes of a number.
    """
    if batch < 1 or context < 1:
        raise ValueError(f"expected a batch and a context of at least 1, got {batch} and {context}")
    if m.positions and m.kind != "vision" and context > m.positions:
        raise ValueError(f"context {context} is beyond the {m.positions} learned positions of {m.name}")
    length = m.positions if m.kind == "vision" else context
    found = _of_weights(m, batch, length, wide, "forward")
    keys, values = (m.mla.nope + m.mla.rope, m.mla.v) if m.mla else (m.head_dim, m.head_dim)
    heads = m.heads if m.mla else m.kv_heads
    pairs = 2 * batch * length**2 * m.layers * m.heads
    moved = batch * length * m.layers * (m.heads + heads) * (keys + values) * wide
    found.append(Placed("forward: scores and values", pairs * (keys + values), moved))
    if m.kind == "decoder":
        found += _of_weights(m, batch, 1, wide, "decode")
        width = 2 * m.mla.kv_rank + m.mla.rope if m.mla else 2 * m.head_dim
        cache = m.kv_bytes(context, batch, wide)
        rows = batch * m.layers * m.heads * width * wide  # queries come in, mixed values go out
        products = 2 * batch * m.layers * m.heads * width * context
        found.append(Placed("decode: scores and values", products, cache + rows))
    return found


def _of_weights(m: ModelSpec, batch: int, tokens: int, wide: float, phase: str) -> list[Placed]:
    """One entry for each part that multiplies."""
    flops: dict[str, float] = {}
    moved: dict[str, float] = {}
    for w in m.weights:
        if w.multiplies:
            rows = batch * (tokens if w.positions is None else w.positions)
            flops[w.part] = flops.get(w.part, 0.0) + 2 * w.multiplied * rows
            moved[w.part] = moved.get(w.part, 0.0) + wide * (_read(w, rows) + _activations(w, rows))
    return [Placed(f"{phase}: {part}", flops[part], moved[part]) for part in flops]


def _read(w: Weight, rows: int) -> float:
    """Numbers of a weight that a pass reads; of experts, those expected to be asked at random."""
    copies = w.copies or 1  # a tied one is stored elsewhere, and read here
    share = 1 - (1 - min(w.used / copies, 1.0)) ** rows if w.used is not None else 1.0
    return w.size * copies * share


def _activations(w: Weight, rows: int) -> float:
    """Numbers that come in and go out."""
    uses = (w.copies or 1) if w.used is None else w.used
    return sum(w.shape) * uses * rows


def measured_products(machine: Machine) -> list[Placed]:
    """Square products of the machine's own measurements, each where it came to lie."""
    found = []
    for sizes, flops, seconds in machine.samples.get("product NN", []):
        m, n, k = sizes
        if m == n == k:
            found.append(Placed(f"product of {m} x {m}", flops, 4 * (m * k + k * n + m * n), flops / seconds))
    return found


@dataclass(frozen=True)
class Roofline(Answer):
    """A roof with operations under it; its values are the roof's.

    Attributes:
        roof: the device's; points: the operations; dtype: in which they run.
    """

    roof: Roof = field(default_factory=lambda: Roof("", {}, {"memory": 1.0}, ""))
    points: Sequence[Placed] = ()
    dtype: str = "bfloat16"

    def rows(self) -> list[list[str]]:
        """The table of operations, its head first."""
        table = [["operation", "FLOPs", "bytes", "FLOP/byte", "at most", "bound by", "takes at least"]]
        if any(p.reached for p in self.points):
            table[0].append("reached")
        for p in self.points:
            most = self.roof.most(p.intensity, self.dtype)
            bound = "arithmetic" if p.intensity >= self.roof.ridge(self.dtype) else "memory"
            row = [p.name, show(p.flops, "FLOP"), show(p.bytes, "B"), f"{p.intensity:.4g}",
                   show(most, "FLOP/s"), bound, show(p.flops / most, "s")]  # fmt: skip
            if len(table[0]) > len(row):
                row.append(f"{show(p.reached, 'FLOP/s')}, {p.reached / most:.0%}" if p.reached else "-")
            table.append(row)
        return table

    def lines(self) -> list[str]:
        """The roof, then the table."""
        roof = self.roof
        said = [f"{roof.name} ({roof.source})", "", "dtype           peak             ridge"]
        for dtype, peak in roof.peaks.items():
            said.append(f"{dtype:15} {show(peak, 'FLOP/s'):16} {peak / roof.bandwidth:.4g} FLOP/byte")
        said += ["", *(f"{level:15} {show(speed, 'B/s')}" for level, speed in roof.bandwidths.items())]
        if self.points:
            table = self.rows()
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            said += ["", f"in {self.dtype}:"]
            said += [
                "  ".join(c.ljust(n) for c, n in zip(row, widths, strict=True)).rstrip() for row in table
            ]
        return said

    def to_json(self) -> dict[str, Any]:
        roof = self.roof
        operations = [
            {
                "name": p.name, "flops": p.flops, "bytes": p.bytes, "intensity": p.intensity,
                "flops_per_s": roof.most(p.intensity, self.dtype),
                "time_s": p.flops / roof.most(p.intensity, self.dtype),
                "bound": "arithmetic" if p.intensity >= roof.ridge(self.dtype) else "memory",
            } | ({"reached_flops_per_s": p.reached} if p.reached else {})
            for p in self.points
        ]  # fmt: skip
        return {
            **super().to_json(), "peaks": dict(roof.peaks), "bandwidths": dict(roof.bandwidths),
            "ridges": {dtype: roof.ridge(dtype) for dtype in roof.peaks}, "operations": operations,
        }  # fmt: skip

    def figure(self) -> Any:
        """A matplotlib figure of it."""
        from mlsys_lab.capacity.roof_figure import drawn  # here: matplotlib takes half a second

        return drawn(self)

    def _repr_html_(self) -> str:
        from mlsys_lab.capacity.roof_figure import as_html

        return as_html(self)


def roofline(
    what: Device | Machine, m: ModelSpec | None = None, *, batch: int = 1, context: int = 0, dtype: str = ""
) -> Roofline:
    """The roofline of a device or machine, with a model's operations on it.

    Args:
        what: a device, or one's own machine as `calibrate` measured it.
        m: whose operations are placed; without one, a machine's own measured products are.
        batch, context: sequences, tokens of each; 0 for the model's, at most 2048.
        dtype: bfloat16 (or what the device has of 16 bits), float32 on a machine, where none is given.

    Raises:
        ValueError: the device has no peak for the dtype, or batch or context are wrong.
    """
    roof = Roof.of(what)
    if not dtype:
        dtype = (
            "float32" if isinstance(what, Machine) else "bfloat16" if "bfloat16" in roof.peaks else "float16"
        )
        dtype = dtype if dtype in roof.peaks else next(iter(roof.peaks), dtype)
    dtype = DTYPES.get(dtype, dtype)
    peak, points = roof.peak(dtype), list[Placed]()
    if m is not None:
        points = operations_of_passes(m, batch, context or min(m.context or 2048, 2048), BYTES.get(dtype, 2))
    elif isinstance(what, Machine) and dtype == "float32":
        points = measured_products(what)
    values = {"device": roof.name, "dtype": dtype, "peak_flops_per_s": peak,
              "memory_bytes_per_s": roof.bandwidth, "ridge_flop_per_byte": roof.ridge(dtype)}  # fmt: skip
    steps = [("ridge_flop_per_byte", f"{peak:,.0f} FLOP/s / {roof.bandwidth:,.0f} B/s", roof.source)]
    steps += [(p.name, f"min({peak:.4g}, {p.flops:,.0f} FLOPs / {p.bytes:,.0f} bytes x "
               f"{roof.bandwidth:.4g}) = {roof.most(p.intensity, dtype):.4g} FLOP/s",
               "Williams, Waterman, Patterson 2009")
              for p in points]  # fmt: skip
    return Roofline(values, steps, roof, tuple(points), dtype)
