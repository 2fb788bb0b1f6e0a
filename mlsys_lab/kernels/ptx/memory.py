"""The memories of a launch: one arena for all arguments, and per block or lane small ones.

An address is a number far from anybody's memory; it is turned into an index of an arena, and what lies
outside an allocation is dropped or read as zero and recorded. Nothing is written outside the arenas.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Where each window of the generic address space begins.
GLOBAL, SHARED, LOCAL = 0x7000_0000_0000, 0x1000_0000_0000, 0x2000_0000_0000
WINDOW = 0x1000_0000_0000
GAP, ALIGN = 1 << 16, 256


@dataclass(frozen=True)
class Allocation:
    """Bytes `start` to `end` of the arena: an argument, or a variable of the module."""

    name: str
    start: int
    end: int
    item: int
    array: Any = None


class Arena:
    """Global and constant memory: allocations with gaps between them."""

    def __init__(self) -> None:
        self.allocations: list[Allocation] = []
        self.pieces: list[tuple[int, Any]] = []
        self.used = GAP
        self.data = np.zeros(0, np.uint8)
        self.symbols: dict[str, int] = {}

    def add(self, name: str, size: int, item: int = 1, array: Any = None, initial: Any = None) -> int:
        """Reserve bytes; the address.

        Args:
            name: as errors call it.
            size: bytes.
            item: bytes of an element, by which errors count.
            array: an argument, copied in by `fill` and back by `copy_back`.
            initial: bytes that it starts with.
        """
        start = self.used
        self.allocations.append(Allocation(name, start, start + size, item, array))
        if array is not None or initial is not None:
            self.pieces.append((start, array if array is not None else np.frombuffer(initial, np.uint8)))
        self.used = -(-(start + size) // ALIGN) * ALIGN + GAP
        return GLOBAL + start

    def fill(self) -> None:
        """Make the memory and copy all arguments in."""
        self.data = np.zeros(-(-self.used // 16) * 16, np.uint8)
        for start, piece in self.pieces:
            flat = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)
            self.data[start : start + flat.size] = flat
        self.starts = [a.start for a in self.allocations]

    def copy_back(self) -> None:
        """Write the arguments' values back into their arrays."""
        for one in self.allocations:
            if one.array is not None and one.array.flags.writeable:
                flat = self.data[one.start : one.end].view(one.array.dtype)
                one.array[...] = flat.reshape(one.array.shape)

    def holding(self, offset: int) -> Allocation | None:
        """The last allocation that starts at or before an offset."""
        place = bisect_right(self.starts, offset) - 1
        return self.allocations[place] if place >= 0 else None

    def inside(self, offsets: np.ndarray, size: int) -> np.ndarray | None:
        """Which accesses lie within one allocation; None when all do."""
        low, high = int(offsets.min()), int(offsets.max())
        one = self.holding(low)
        if one is not None and low >= one.start and high + size <= one.end:
            return None
        place = np.searchsorted(self.starts, offsets, side="right") - 1
        ends = np.array([a.end for a in self.allocations])
        good = (place >= 0) & (offsets + size <= ends[np.maximum(place, 0)])
        return None if good.all() else good

    def described(self, offset: int) -> str:
        """An address in the terms of the arguments: `x[1030], which has 1024`."""
        one = self.holding(offset)
        if one is None:
            one = self.allocations[0] if self.allocations else None
        if one is None or abs(offset) > 1 << 46:
            return f"address {offset + GLOBAL:#x}, in no argument"
        index = (offset - one.start) // one.item
        return f"{one.name}[{index}], which has {(one.end - one.start) // one.item}"
