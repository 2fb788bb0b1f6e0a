"""A language model's operations under a GPU's roof: which bound each meets, and what moves it.

Times are the two bounds of the roofline (Williams, Waterman and Patterson 2009), bytes over bandwidth and
FLOPs over peak, from the maker's figures: a model, nothing is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

from mlsys_lab._core.hardware import Device, device
from mlsys_lab.capacity.models import ModelSpec
from mlsys_lab.capacity.zoo import language_model
from mlsys_lab.viz.stepper import LETTER, LINE, Shape, Step, Stepper

LEFT, TOP, WIDE, HIGH, EDGE = 84, 24, 860, 330, 16  # pixels: around the axes, and the axes
FROM, TO = -3, 13  # powers of two of FLOP/byte
DOT = 20  # pixels, with a number in it
BAR_TOP = TOP + HIGH + 3 * LINE

INTRO = (
    "Across: FLOP per byte moved. Up: what is attainable, in TFLOP/s; each mark is four times the last. "
    "An operation stands on the roof at its intensity. Below: how long its bytes take and how long its FLOPs "
    "take; the longer one is its time at best. Orange: the bytes decide. Blue: the arithmetic decides. A "
    "model from the makers' figures; what a program reaches lies below."
)


@dataclass(frozen=True)
class Operation:
    """One operation: how the drawing and the sentence call it, and why one looks at it."""

    name: str
    flops: float
    moved: float
    why: str

    @property
    def intensity(self) -> float:
        return self.flops / self.moved


def roof_steps(
    gpu: str = "H100",
    *,
    others: Sequence[str] = ("A100", "L4"),
    model: str = "llama-2-7b",
    batches: Sequence[int] = (1, 8, 64, 512),
    context: int = 2048,
) -> Stepper:
    """The operations of one layer of a language model under the roof of a GPU, in bf16.

    Args:
        gpu: whose roof it is.
        others: whose roofs are drawn beside it, in grey.
        model: a language model that `capacity.model` knows, with a gated MLP.
        batches: tokens written at a time, one per request, from small to large.
        context: tokens of each request that are there already.

    Returns:
        A stepper.

    Raises:
        ValueError: a batch or the context is below 1; from `device` and `language_model`, an unknown name.

    Example:
        >>> viz.roof_steps("A100", others=["V100"]).save("roof.html")  # doctest: +SKIP
    """
    if not batches or min(context, *batches) < 1:
        raise ValueError(f"expected batches and a context of at least 1, got {list(batches)} and {context}")
    chip, spec = device(gpu), language_model(model)
    found = operations(spec, batches, context)
    return Drawing(chip, [device(name) for name in others], found).stepper(spec.name)


def operations(spec: ModelSpec, batches: Sequence[int], context: int) -> list[Operation]:
    """What is looked at, in order."""
    h, f = spec.hidden, spec.intermediate
    wide = spec.heads * spec.head_dim

    def product(tokens: int, weight_bytes: int = 2) -> tuple[int, int]:
        return 2 * tokens * h * f, weight_bytes * h * f + 2 * tokens * (h + f)

    why = "Two numbers are read and one is written for one addition."
    found = [Operation("sum of two vectors", h * f, 6 * h * f, why)]
    for n in batches:
        why = f"The weights of the MLP, {h:,} by {f:,}, are read for " + (
            "one token of one person." if n == 1 else f"{n} requests at once: many FLOPs more, few bytes."
        )
        found.append(Operation(f"MLP, {n} token{'s' * (n > 1)}", *product(n), why))
    middle = batches[len(batches) // 2]
    why = f"The {middle} again, with weights of one byte: half of the bytes, the same FLOPs in bf16."
    found.append(Operation(f"int8 weights, {middle}", *product(middle, 1), why))
    why = (
        f"Each request has keys and values of its own, {context:,} tokens of them: a larger batch brings as "
        "many bytes more as FLOPs, and moves nothing to the right."
    )
    cache = 4 * context * spec.kv_heads * spec.head_dim
    found.append(Operation("attention, decode", 4 * context * wide, cache, why))
    if spec.kv_heads == spec.heads and spec.heads % 8 == 0:
        why = "Were each key and value shared by 8 heads (grouped queries): an eighth of the bytes."
        found.append(Operation("a key for 8 heads", 4 * context * wide, cache // 8, why))
    why = (
        f"A whole prompt of {context:,} tokens at once, by tiles (FlashAttention), half of all pairs: a key "
        "serves all queries after it."
    )
    moved = 4 * context * (wide + spec.kv_heads * spec.head_dim)  # queries and result, keys and values
    found.append(Operation("attention, prefill", 2 * context**2 * wide, moved, why))
    return found


class Drawing:
    """Where things lie, and what is said of each operation."""

    def __init__(self, chip: Device, others: Sequence[Device], found: Sequence[Operation]) -> None:
        self.chip, self.others, self.found = chip, others, found
        roofs = [chip, *others]
        self.high = max(log2(d.half_peak() / 1e12) for d in roofs) + 1
        self.low = min(log2(d.memory_bytes_per_s * 2**FROM / 1e12) for d in roofs) - 0.5

        self.dots = self.shared_dots()

    def stepper(self, name: str) -> Stepper:
        shapes = self.axes() | self.roofs() | self.places() | self.bars()
        ridge = self.chip.half_peak() / self.chip.memory_bytes_per_s
        start = (
            f"The roof of {self.chip.name}: {self.chip.memory_bytes_per_s / 1e12:.3g} TB/s make the slope, "
            f"{self.chip.half_peak() / 1e12:.4g} TFLOP/s in bf16, without sparsity, the flat part. They meet "
            f"at the ridge, {ridge:.0f} FLOP/byte."
        )
        steps = [Step(start)]
        for i, one in enumerate(self.found):
            steps.append(self.step(i, one))
        memory = sum(self.by_memory(o) for o in self.found)
        end = (
            f"{memory} of these {len(self.found)} operations of {name} wait for memory on {self.chip.name}. "
            "What helps them is fewer bytes: a batch, smaller types, shared keys, fusion; what helps the "
            "others is a higher peak."
        )
        last = len(self.found) - 1
        steps.append(Step(end, self.settled(last)))
        size = (LEFT + WIDE + EDGE, BAR_TOP + 4 * LINE + EDGE)
        return Stepper(f"Which roof is {name} under?", INTRO, shapes, steps, size)

    def step(self, i: int, one: Operation) -> Step:
        slow, fast = self.times(one)
        side = (
            "left of the ridge: memory decides"
            if self.by_memory(one)
            else "right of the ridge: the arithmetic decides"
        )
        say = f"{one.why} {_three(one.intensity)} FLOP/byte, {side}."
        tone = "memory" if self.by_memory(one) else "compute"
        most = max(slow, fast)
        reached = one.flops / most / 1e12
        return Step(
            say,
            {
                **(self.settled(i - 1) if i else {}),
                f"dot{self.dots[i]}": {"tone": tone, "lines": (self.numbers(i),)},
                f"name{i}": {"lines": (f"{i + 1} {one.name}: {reached:.3g} TFLOP/s",), "tone": tone},
                "bytes": {"lines": (f"{size_of(one.moved)} moved: {time_of(slow)}",), "level": slow / most},
                "flops": {"lines": (f"{count_of(one.flops)}: {time_of(fast)}",), "level": fast / most},
            },
        )

    def settled(self, i: int) -> dict[str, dict[str, Any]]:
        """What stays of an operation when the next one is looked at."""
        return {f"dot{self.dots[i]}": {"tone": "plain"}, f"name{i}": {"tone": "label"}}

    def numbers(self, i: int) -> str:
        """What stands in the dot of operation i: the numbers of all at this place so far."""
        return " ".join(str(j + 1) for j in range(i + 1) if self.dots[j] == self.dots[i])

    def times(self, one: Operation) -> tuple[float, float]:
        return one.moved / self.chip.memory_bytes_per_s, one.flops / self.chip.half_peak()

    def by_memory(self, one: Operation) -> bool:
        slow, fast = self.times(one)
        return slow > fast

    def x(self, intensity: float) -> float:
        return LEFT + WIDE * (log2(intensity) - FROM) / (TO - FROM)

    def y(self, flops_per_s: float) -> float:
        return TOP + HIGH * (self.high - log2(flops_per_s / 1e12)) / (self.high - self.low)

    def axes(self) -> dict[str, Shape]:
        bottom = TOP + HIGH
        found = {
            "across": Shape("", path=((LEFT, bottom), (LEFT + WIDE, bottom))),
            "up": Shape("", path=((LEFT, bottom), (LEFT, TOP))),
            "unit-x": Shape("", LEFT + WIDE - 90, bottom + LINE, 90, LINE, ("FLOP/byte",), "label"),
            "unit-y": Shape("", 0, 0, 90, LINE, ("TFLOP/s",), "label"),
        }
        for power in range(FROM, TO, 2):
            x = LEFT + WIDE * (power - FROM) / (TO - FROM)
            text = f"{2**power:,}" if power >= 0 else f"1/{2**-power}"
            found[f"x{power}"] = Shape("", x - 24, bottom + 2, 48, LINE, (text,), "label")
        for power in range(-5, 13, 2):
            if self.low < power < self.high:
                y = self.y(2.0**power * 1e12)
                text = f"{2**power:,}" if power >= 0 else f"1/{2**-power}"
                found[f"y{power}"] = Shape("", 20, y - LINE / 2, 60, LINE, (text,), "label")
        return found

    def roofs(self) -> dict[str, Shape]:
        found = {}
        for i, d in enumerate([*self.others, self.chip]):
            ridge = d.half_peak() / d.memory_bytes_per_s
            corner = (self.x(ridge), self.y(d.half_peak()))
            start = (LEFT, self.y(d.memory_bytes_per_s * 2**FROM))
            flat = (LEFT + WIDE - 10, corner[1])
            found[f"roof{i}"] = Shape(
                "", path=(start, corner, flat), tone="plain" if d is not self.chip else "reference"
            )
            wide = LETTER * len(d.name) + 8
            found[f"of{i}"] = Shape(
                "roof", flat[0] - wide, corner[1] - LINE - 2, wide, LINE, (d.name,), "label"
            )
        ridge = self.chip.half_peak() / self.chip.memory_bytes_per_s
        text = f"ridge {ridge:,.0f}"
        left, top = self.x(ridge) - 116, self.y(self.chip.half_peak()) - LINE - 8
        found["ridge"] = Shape("ridge", left, top, 88, LINE + 2, (text,), "reference")
        return found

    def place(self, one: Operation) -> tuple[float, float]:
        return self.x(one.intensity), self.y(one.flops / max(self.times(one)))

    def shared_dots(self) -> list[int]:
        """Per operation whose dot it has: its own, or that of an earlier one at nearly the same place."""
        found: list[int] = []
        for i, one in enumerate(self.found):
            x, y = self.place(one)
            near = [
                j
                for j in found
                if max(abs(a - b) for a, b in zip(self.place(self.found[j]), (x, y), strict=True)) < DOT
            ]
            found.append(near[0] if near else i)
        return found

    def places(self) -> dict[str, Shape]:
        """A dot standing on the roof per place, and the list of names where no roof runs: bottom right."""
        found: dict[str, Shape] = {}
        wide = LETTER * (max(len(o.name) for o in self.found) + 20)
        left = LEFT + WIDE - wide
        for i, one in enumerate(self.found):
            x, y = self.place(one)
            half = DOT / 2 + 5 * (self.dots.count(i) - 1)
            if self.dots[i] == i:
                found[f"dot{i}"] = Shape("", x - half, y - DOT - half / 2, 2 * half, DOT, (), "label")
            top = TOP + HIGH - (len(self.found) - i) * (LINE + 3) - 4
            found[f"name{i}"] = Shape("attainable", left, top, wide, LINE + 2, (), "label")
        return found

    def bars(self) -> dict[str, Shape]:
        def bar(top: float, name: str, tone: str) -> Shape:
            return Shape(name, EDGE, top, LEFT + WIDE - EDGE, LINE + 8, (name,), tone, 0.0)

        return {
            "bytes": bar(BAR_TOP, "bytes", "memory"),
            "flops": bar(BAR_TOP + 2 * LINE, "FLOPs", "compute"),
        }


def _three(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def size_of(count: float) -> str:
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.3g} B"


def count_of(flops: float) -> str:
    for scale, unit in ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP")):
        if flops >= scale:
            return f"{flops / scale:.3g} {unit}"
    return f"{flops:.3g} FLOP"


def time_of(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"
