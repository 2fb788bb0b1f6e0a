"""Shuffles: values of other lanes of the warp, and what of them hardware leaves undefined.

A lane that has returned, that is switched off or that the reader's mask does not name has no value to give
(CUDA C++ Programming Guide, "Warp Shuffle Functions"): an error, and what is read is poison. Beyond the width
a lane gets its own value, which is defined.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.lanes import WARP
from mlsys_lab.kernels.ptx.machine import Machine

POISON = 0x7FFFDEAD  # a NaN as a float, far from any count as an integer


class Shuffling(Machine):
    """The machine, which shuffles."""

    def shuffle(
        self, way: str, line: int, guard: Any, value: Any, by: Any, clamp: Any, mask: Any
    ) -> tuple[Any, Any]:
        """Values of other lanes, and whether there was such a lane within the width.

        Args:
            way: "up", "down", "bfly" or "idx".
            line: of the source.
            guard: which of the running lanes take part; None for all.
            value: what each gives.
            by: the distance, the bits that differ or the lane.
            clamp: PTX's operand c: the last lane, and above it the bits of a lane that are its segment.
            mask: the lanes that each names.
        """
        place, _ = self.current()
        give, chosen = self.current(guard)
        values = np.broadcast_to(value, place.shape)
        lane = place & (WARP - 1)
        by, clamp = np.asarray(by, np.int64), np.asarray(clamp, np.int64)
        segment, limit = (clamp >> 8) & 31, clamp & 31
        low = lane & segment
        high = low | (limit & ~segment)
        if way == "up":
            source, fine = lane - by, lane - by >= high
        elif way == "down":
            source, fine = lane + by, lane + by <= high
        elif way == "bfly":
            source, fine = lane ^ by, (lane ^ by) <= high
        else:
            source = low | (by & ~segment & 31)
            fine = source <= high
        source = np.where(fine, source, lane)
        some: Any = slice(None) if chosen is None else chosen
        whole = self.by_warp(values[some], give, POISON)
        there = self.by_warp(np.ones(give.shape, bool), give, False)
        at = (place & ~np.int64(WARP - 1)) + source
        named = (np.asarray(mask, np.int64) >> source) & 1 == 1
        good = there[at] & named
        if not good[some].all():
            i = int(np.arange(len(place))[some][np.argmin(good[some])])
            why = "which has returned or does not run this" if named[i] else "which its mask does not name"
            what = f"{self.named(int(place[i]))} asks for the value of lane {source[i]} of its warp"
            told = f"line {line}: {what}, {why}: it is undefined"
            self.counts.error("undefined_shuffle", line, told)
        return np.where(good, whole[at], values.dtype.type(POISON)), np.broadcast_to(fine, place.shape)
