"""Who touched which bytes last, and whether anything ordered it.

Each granule of memory remembers its last writer and its readers since, as numbers that hold the time
(barriers of the block, then `__syncwarp`s of the warp) above the thread. Two threads of a block conflict in
the same interval between barriers; of a warp, between its `__syncwarp`s; of different blocks always. Lockstep
orders nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.order import Order

STEPS = 1 << 12  # `__syncwarp`s of a warp that are told apart within one interval
NEVER = -1


@dataclass(frozen=True)
class Race:
    """Two unordered accesses to the same bytes, at least one a write, not both atomic.

    Attributes:
        space: "shared" or "global".
        address: the byte in the block's shared memory, or in the argument.
        lines: of the two accesses in the source, the earlier one first.
        threads: of the two, each (x, y, z).
        blocks: likewise.
        kind: "write-write", "read-write" or "same-value" (several threads write one value).
        message: one line.
    """

    space: str
    address: int
    lines: tuple[int, int]
    threads: tuple[Any, Any]
    blocks: tuple[Any, Any]
    kind: str
    message: str


@dataclass
class Found:
    """A conflict in the terms of the shadow: granule, threads of the launch, lines, kind."""

    granule: int
    threads: tuple[int, int]
    lines: tuple[int, int]
    kind: str


def interval_start(stamps: np.ndarray) -> int:
    """The least stamp of the earliest interval among these."""
    return (int(stamps.min()) >> 32) // STEPS * STEPS << 32


@dataclass
class Shadow:
    """The last accesses to each granule of one memory.

    Attributes:
        granules: how many there are.
        threads: in a block, whole warps.
        across: whether blocks share it (global memory).
        order: what fences order between blocks; None where there are none.
    """

    granules: int
    threads: int
    across: bool
    order: Order | None = None
    found: list[Found] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.writer = np.full(self.granules, NEVER, np.int64)
        self.reader = np.full(self.granules, NEVER, np.int64)
        self.several = np.zeros(self.granules, np.uint8)  # 1: more readers, of one warp; 2: of several
        self.lines_of_writer = np.zeros(self.granules, np.int32)
        self.lines_of_reader = np.zeros(self.granules, np.int32)
        self.atomic = np.zeros(self.granules, bool)
        size = self.granules if self.order is not None else 0
        self.writers_release, self.readers_release = np.zeros(size, np.int32), np.zeros(size, np.int32)

    def stamps(self, who: np.ndarray, interval: Any, step: Any) -> np.ndarray:
        """Time and thread in one number.

        Args:
            who: thread of the launch: block * threads + thread.
            interval: barriers that its block has passed.
            step: `__syncwarp`s that its warp has passed since.
        """
        time = np.minimum(interval, 1 << 18) * STEPS + np.minimum(step, STEPS - 1)
        return (np.asarray(time, np.int64) << 32) | who

    def conflicts(
        self, old: np.ndarray, new: np.ndarray, several: np.ndarray | None, release: np.ndarray | None
    ) -> np.ndarray:
        """Which of the earlier accesses `old` the accesses `new` are not ordered after.

        Args:
            old, new: stamps.
            several: of reads, whether there were more than the one that `old` names.
            release: how often the earlier ones' blocks had handed on, where fences order blocks.
        """
        mask = np.int64(0xFFFFFFFF)
        was, now = old & mask, new & mask
        unordered = old >= 0
        other = was != now
        same_block = was // self.threads == now // self.threads
        interval = (old >> 32) // STEPS == (new >> 32) // STEPS
        same_warp = was // 32 == now // 32
        same_step = (old >> 32) == (new >> 32)
        if several is None:
            within = interval & np.where(same_warp, same_step, True)
        else:
            one_warp = interval & np.where(same_warp, same_step & (other | (several >= 1)), True)
            within = np.where(several == 2, interval, one_warp)
            other = other | (several > 0)
        found = unordered & other & np.where(same_block, within, self.across)
        if release is not None and self.order is not None and found.any():
            ask = np.flatnonzero(found & ~same_block)
            blocks = was[ask] // self.threads, now[ask] // self.threads
            found[ask] = ~self.order.before(blocks[0], release[ask], blocks[1])
        return found

    def releases(self, kept: np.ndarray, where: np.ndarray) -> np.ndarray | None:
        return kept[where] if self.order is not None else None

    def hand_on(self, kept: np.ndarray, where: np.ndarray, stamps: np.ndarray) -> None:
        """Note how often the blocks of these accesses have handed on."""
        if self.order is not None:
            kept[where] = self.order.released[(stamps & np.int64(0xFFFFFFFF)) // self.threads]

    def read(self, where: np.ndarray, stamps: np.ndarray, line: int) -> None:
        """Note reads, so that writes that are not ordered after them are found."""
        was = self.reader[where]
        mask = np.int64(0xFFFFFFFF)
        fresh = (was < 0) | ((was >> 32) // STEPS != (stamps >> 32) // STEPS)
        if not self.across:
            fresh |= (was & mask) // self.threads != (stamps & mask) // self.threads
        elif not fresh.all():
            fresh &= (was < 0) | ((was & mask) // self.threads == (stamps & mask) // self.threads)
        self.reader[where] = stamps
        self.lines_of_reader[where] = line
        self.hand_on(self.readers_release, where, stamps)
        last = self.reader[where]  # of lanes that read the same granule, one remains
        level = np.where((last & mask) // 32 == (stamps & mask) // 32, 1, 2).astype(np.uint8)
        level[last == stamps] = 0
        kept = ~fresh & ((was & mask) != (stamps & mask))
        older = np.where((was & mask) // 32 == (stamps & mask) // 32, 1, 2).astype(np.uint8)
        np.maximum(level, np.where(kept, np.maximum(older, self.several[where]), 0), out=level)
        self.several[where[fresh]] = 0
        if level.any():
            np.maximum.at(self.several, where, level)

    def against_writers(
        self, where: np.ndarray, stamps: np.ndarray, line: int, kind: str, atomic: bool
    ) -> None:
        """Find earlier writes that these accesses are not ordered after."""
        before = self.writer[where]
        if not self.across and before.max() < interval_start(stamps):
            return
        bad = self.conflicts(before, stamps, None, self.releases(self.writers_release, where))
        if atomic:
            bad &= ~self.atomic[where]
        if bad.any():
            self.report(where, before, stamps, bad, self.lines_of_writer, line, kind)

    def write(
        self, where: np.ndarray, stamps: np.ndarray, line: int, values: Any = None, atomic: bool = False
    ) -> None:
        """Note writes, and find accesses that they are not ordered after."""
        self.against_writers(where, stamps, line, "write-write", atomic)
        before = self.reader[where]
        bad = self.conflicts(before, stamps, self.several[where], self.releases(self.readers_release, where))
        if bad.any():
            self.report(where, before, stamps, bad, self.lines_of_reader, line, "read-write")
        self.writer[where] = stamps
        self.lines_of_writer[where] = line
        self.hand_on(self.writers_release, where, stamps)
        self.atomic[where] = atomic
        self.reader[where], self.several[where] = NEVER, 0  # whoever comes after this came after them
        if atomic:
            return
        last = self.writer[where]
        bad = last != stamps  # in this one instruction
        if bad.any():
            kind = "write-write"
            if values is not None:
                order = np.zeros(len(where), bool)
                first = {int(g): v for g, v in zip(where[~bad], values[~bad], strict=True)}
                order[bad] = [first.get(int(g)) == v for g, v in zip(where[bad], values[bad], strict=True)]
                if order[bad].all():
                    kind = "same-value"
            self.report(where, last, stamps, bad, self.lines_of_writer, line, kind)

    def report(
        self,
        where: np.ndarray,
        old: np.ndarray,
        new: np.ndarray,
        bad: np.ndarray,
        lines: np.ndarray,
        line: int,
        kind: str,
    ) -> None:
        """Keep the first conflict of each pair of lines."""
        mask = np.int64(0xFFFFFFFF)
        at = np.flatnonzero(bad)
        pairs = lines[where[at]]
        for earlier in np.unique(pairs):
            i = at[np.flatnonzero(pairs == earlier)[0]]
            key = (int(earlier), line)
            if not any(f.lines == key and f.kind == kind for f in self.found):
                self.found.append(Found(int(where[i]), (int(old[i] & mask), int(new[i] & mask)), key, kind))
