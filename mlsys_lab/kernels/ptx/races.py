"""Who touched which bytes last, and whether anything ordered it.

Each granule of memory remembers its last writer and two readers since, as numbers that hold the time
(barriers of the block, then `__syncwarp`s of the warp) above the thread. Two threads of a block conflict in
the same interval between barriers; of a warp, between its `__syncwarp`s; of different blocks always; unless
fences order them, or both accesses are strong. Lockstep orders nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.code import Access
from mlsys_lab.kernels.ptx.order import STEPS, THREAD, Order

Array = np.ndarray


@dataclass
class Found:
    """A conflict in the terms of the shadow: granule, threads of the launch, lines, kind."""

    granule: int
    threads: tuple[int, int]
    lines: tuple[int, int]
    kind: str


def stamped(who: Array, interval: Any, step: Any) -> Array:
    """Time and thread in one number, above 0.

    Args:
        who: thread of the launch: block * threads + thread.
        interval: barriers that its block has passed.
        step: `__syncwarp`s that its warp has passed since.
    """
    time = (np.minimum(interval, 1 << 18) + 1) * STEPS + np.minimum(step, STEPS - 1)
    return (np.asarray(time, np.int64) << 32) | who


class Trace:
    """Of each granule one access: its stamp, its line and strength, the fences that its thread had run."""

    def __init__(self, granules: int, order: Order | None) -> None:
        self.stamp, self.what = np.zeros(granules, np.int64), np.zeros(granules, np.int32)
        self.clock, self.order = np.zeros(granules if order is not None else 0, np.int32), order

    def note(self, where: Array, stamps: Array, access: Access) -> None:
        self.stamp[where], self.what[where] = stamps, access.line << 2 | access.strong
        if self.order is not None:
            self.clock[where] = self.order.clock[stamps & THREAD]

    def copy(self, other: Trace, where: Array) -> None:
        self.stamp[where], self.what[where] = other.stamp[where], other.what[where]
        if self.order is not None:
            self.clock[where] = other.clock[where]


class Shadow:
    """The last accesses to each granule of one memory.

    Args:
        size: bytes.
        granule: bytes that are told apart.
        threads: in a block, whole warps.
        across: whether blocks share it (global memory).
        order: what fences order; None where there are none.
    """

    def __init__(self, size: int, granule: int, threads: int, across: bool, order: Order | None) -> None:
        self.granule, self.threads, self.across, self.order = granule, threads, across, order
        self.writer, self.reader, self.second = (Trace(-(-size // granule), order) for _ in range(3))
        self.found: list[Found] = []

    def distance(self, old: Array, new: Array) -> Array:
        """1 for threads of one warp, 2 of one block, 3 of two."""
        was, now = old & THREAD, new & THREAD
        return 1 + (was // 32 != now // 32) + (was // self.threads != now // self.threads)

    def unordered(self, kept: Trace, where: Array, new: Array, strong: int = 0) -> Array | None:
        """How far apart earlier accesses are from new ones that are not ordered after them; 0: ordered.

        Args:
            kept: the earlier ones.
            where: granules.
            new: stamps.
            strong: of the new ones, see `Access`; two that are strong enough are no conflict.

        Returns: See above; None where all are ordered.
        """
        old = kept.stamp[where]
        least = 1 if self.across else (int(new.min()) >> 32) // STEPS * STEPS << 32  # of this interval
        if old.max() < least:
            return None
        same = old >> 32 == new >> 32
        far = self.distance(old, new)
        within = np.where(far == 1, same, (old >> 32) // STEPS == (new >> 32) // STEPS)
        found = (old > 0) & ((old ^ new) & THREAD != 0) & np.where(far == 3, self.across, within)
        if strong and found.any():
            found &= np.minimum(kept.what[where] & 3, strong) < np.array([0, 2, 1, 3])[far]
        if self.order is not None and found.any():
            ask = np.flatnonzero(found)
            found[ask] = ~self.order.before(old[ask], kept.clock[where[ask]], new[ask] & THREAD)
        return far * found if found.any() else None

    def check(
        self, kept: Trace, where: Array, new: Array, access: Access, kind: str, bad: Any = None
    ) -> None:
        """Find earlier accesses that these are not ordered after; of each pair of lines the first is kept."""
        bad = self.unordered(kept, where, new, access.strong) if bad is None else bad
        if bad is None:
            return
        at, old = np.flatnonzero(bad), kept.stamp[where]
        pairs = kept.what[where[at]] >> 2
        for earlier in np.unique(pairs):
            i = at[np.flatnonzero(pairs == earlier)[0]]
            key = (int(earlier), access.line)
            if not any(f.lines == key and f.kind == kind for f in self.found):
                threads = int(old[i] & THREAD), int(new[i] & THREAD)
                self.found.append(Found(int(where[i]), threads, key, kind))

    def read(self, where: Array, stamps: Array, access: Access) -> None:
        """Note reads, so that writes that are not ordered after them are found.

        Of readers that nothing orders two are kept, the last one and the one farthest from it.
        """
        old = self.unordered(self.reader, where, stamps)
        if old is not None:
            kept = self.unordered(self.second, where, stamps)
            self.second.copy(self.reader, where[(old > 0) & (old >= (0 if kept is None else kept))])
        self.reader.note(where, stamps, access)
        last = self.reader.stamp[where]  # of lanes that read the same granule, one remains
        if (last != stamps).any():
            kept = self.unordered(self.second, where, last)
            far = self.distance(last, stamps) * (last != stamps)
            for level in (1, 2, 3):
                some = (far == level) & (far >= (0 if kept is None else kept))
                self.second.note(where[some], stamps[some], access)

    def write(
        self, where: Array, stamps: Array, access: Access, values: Any = None, same: Any = None
    ) -> None:
        """Note writes, and find accesses that they are not ordered after; `same` is there already."""
        bad = self.unordered(self.writer, where, stamps, access.strong)
        if bad is not None:
            again = np.zeros(len(where), bool) if same is None else same
            self.check(self.writer, where, stamps, access, "write-write", bad * ~again)
            self.check(self.writer, where, stamps, access, "same-value", bad * again)
        self.check(self.reader, where, stamps, access, "read-write")
        self.check(self.second, where, stamps, access, "read-write")
        self.writer.note(where, stamps, access)
        self.reader.stamp[where] = self.second.stamp[where] = 0  # who comes after this came after them
        bad = self.writer.stamp[where] != stamps  # in this one instruction
        if access.strong > 1 or not bad.any():
            return
        kind = "write-write"
        if values is not None:
            first = {int(g): v for g, v in zip(where[~bad], values[~bad], strict=True)}
            if all(first.get(int(g)) == v for g, v in zip(where[bad], values[bad], strict=True)):
                kind = "same-value"
        self.check(self.writer, where, stamps, access, kind, bad)
