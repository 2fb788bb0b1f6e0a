"""How long a training step takes, from its operations and what the machine does with each class of them."""

from __future__ import annotations

import math
from collections import OrderedDict
from itertools import accumulate
from typing import Any

import numpy as np

from mlsys_lab.capacity.classes import kind
from mlsys_lab.capacity.dispatched import Operation, operations_of
from mlsys_lab.capacity.machine import Machine, Samples

#: What stands in for a class that was not measured: a stream of its bytes.
STAND_IN = "aten::add"


def step_seconds(module: Any, inputs: Any, optimizer: Any, machine: Machine, *, step: Any = None) -> float:
    """CPU seconds of a training step in one thread.

    Args:
        module, inputs, optimizer, step: as `trace` takes them; nothing of them runs.
        machine: measured.
    """
    seen = operations_of(module, inputs, optimizer, step=step)
    cache = Cache(machine)
    for o in seen:  # as the step before left it
        cache.late_bytes(o)
    clock = Clock(machine)
    for late in (False, True):  # the first time around says when each class ran last
        clock.total_s = 0.0
        for o in seen:
            clock.run(o, cache.late_seconds(o) if late else 0.0)
    return clock.total_s


class Clock:
    """Time in a step, and when each class of operation had the core last.

    A small operation after a large one costs several times what it costs in a loop of its own: its code, the
    tables of the allocator and of addresses have left the caches.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine, self.total_s, self.now_s = machine, 0.0, 0.0
        self.last_s: dict[str, float] = {}

    def run(self, operation: Operation, late_s: float) -> None:
        """Let an operation take its time; `late_s` is what far inputs add."""
        name = kind(operation).name
        gap_s = self.now_s - self.last_s.get(name, -math.inf)
        taken = seconds_of(operation, self.machine) + late_s
        taken += cold_seconds(name, gap_s, self.machine) + self.machine.overhead_s
        self.total_s += taken
        self.now_s += taken
        self.last_s[name] = self.now_s


def cold_seconds(name: str, gap_s: float, machine: Machine) -> float:
    """What a call costs more when its class ran last `gap_s` ago: nothing at 0, then as measured."""
    points = machine.cold.get(name) or machine.cold.get(STAND_IN) or [(1.0, 0.0)]
    gaps, extras = zip((0.0, 0.0), *points, strict=True)
    return float(np.interp(gap_s, gaps, extras))


class Cache:
    """How far away each block is: least recently used goes first.

    Alone, an operation finds its inputs where it left them. In a step they are as far away as what was
    touched since: weights and the optimiser's state have gone to memory by the time they are used again.
    """

    def __init__(self, machine: Machine) -> None:
        self.sizes = [math.log(size) for size, _ in machine.stream]
        self.costs = list(accumulate((cost for _, cost in machine.stream), max))  # farther is never cheaper
        self.recent: OrderedDict[int, int] = OrderedDict()

    def late_seconds(self, operation: Operation) -> float:
        """What fetching its inputs costs beyond what the operation alone pays."""
        return sum(size * extra for size, extra in self.late_bytes(operation))

    def late_bytes(self, operation: Operation) -> list[tuple[int, float]]:
        """Of each input the bytes, and the seconds per byte that they cost more; marks all as used."""
        # In place: what came from far away goes back there, and an array alone is one and not two.
        again = operation.read[:1] if operation.name.endswith("_") else operation.read[:0]
        alone = self._cost(operation.bytes - sum(size for _, size in again))
        late = [
            (size, max(self._cost(self._distance(block)) - alone, 0.0))
            for block, size in (*operation.read, *again)
        ]
        for block, size in operation.read:
            self.recent[block] = max(size, self.recent.pop(block, 0))
        return late

    def _distance(self, block: int) -> int:
        """Bytes touched since a block was, its own included; all of them where it never was."""
        total, far = 0, math.exp(self.sizes[-1]) if self.sizes else 0.0
        for there, size in reversed(self.recent.items()):
            total += size
            if there == block or total > far:
                break
        return total if block in self.recent else 0  # what is new is where alone it would be

    def _cost(self, size: int) -> float:
        return float(np.interp(math.log(max(size, 1)), self.sizes, self.costs)) if self.sizes else 0.0


def seconds_of(operation: Operation, machine: Machine) -> float:
    """CPU seconds of one operation by itself.

    Args:
        operation: any; of a class that was not measured it is taken for an addition of as many bytes.
        machine: measured.
    """
    name, sizes, units = kind(operation)
    samples = machine.samples.get(name)
    if samples is None or len(samples[0][0]) != len(sizes):
        samples, sizes, units = machine.samples[STAND_IN], (max(units // 12, 1),), max(units, 12)
    return _interpolated(samples, sizes, units)


def _interpolated(samples: Samples, sizes: tuple[int, ...], units: int) -> float:
    """Along each axis linearly between logarithms; beyond the grid the rate stays as at its end."""
    axes = [sorted({s[0][i] for s in samples}) for i in range(len(sizes))]
    there = {s[0]: s for s in samples}
    weights: list[tuple[tuple[int, ...], float]] = [((), 1.0)]
    for axis, size in zip(axes, sizes, strict=True):
        weights = [
            ((*at, a), w * share) for at, w in weights for a, share in _between(axis, size) if share > 0
        ]
    known = [(there[at], w) for at, w in weights if at in there]
    if not known:
        known = [(min(samples, key=lambda s: _apart(s[0], sizes)), 1.0)]
    total = sum(w for _, w in known)
    rate = sum(w * np.log(s[2] / s[1]) for s, w in known) / total
    return float(np.exp(rate)) * units


def _apart(these: tuple[int, ...], those: tuple[int, ...]) -> float:
    return sum(abs(math.log(a / b)) for a, b in zip(these, those, strict=True))


def _between(axis: list[int], size: int) -> list[tuple[int, float]]:
    if size <= axis[0]:
        return [(axis[0], 1.0)]
    if size >= axis[-1]:
        return [(axis[-1], 1.0)]
    high = next(i for i, a in enumerate(axis) if a >= size)
    low = high - 1
    share = math.log(size / axis[low]) / math.log(axis[high] / axis[low])
    return [(axis[low], 1 - share), (axis[high], share)]
