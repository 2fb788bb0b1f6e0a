"""Asynchronous copies into shared memory: what is read before its copy was waited for.

The bytes land at once here, and each word remembers whose copy brought it and in which of that thread's
groups. Until the thread has waited for the group, hardware may not have brought it (PTX ISA 9.0, 9.7.9.25,
"cp.async"): who reads or overwrites it is an error. The wait counts as the write for races.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.code import Access
from mlsys_lab.kernels.ptx.machine import Machine
from mlsys_lab.kernels.ptx.table import DTYPES

WORD = 4  # bytes; no copy is smaller


class Copying(Machine):
    """The machine, which copies asynchronously."""

    def start(self, limit: int) -> None:
        super().start(limit)
        lanes, words = self.blocks * self.threads, len(self.shared) // WORD
        self.group, self.arrived = np.zeros(lanes, np.int64), np.zeros(lanes, np.int64)  # of each thread
        self.owner, self.batch, self.from_line = (np.zeros(words, np.int32) for _ in range(3))
        self.flying: list[tuple[Access, np.ndarray, np.ndarray, np.ndarray, tuple[Any, ...]]] = []
        self.copying = self.copied = False

    def copy_async(
        self, source: Access, target: Access, to: Any, from_: Any, guard: Any, given: Any = None
    ) -> None:
        """cp.async; of each copy `given` bytes are read, and zeros fill the rest."""
        if given is None:
            values = self.load(source, from_[0], from_[1], guard)
        else:
            values = self.some(source, from_, guard, given)
        self.copying = self.copied = True
        self.store(target, to[0], to[1], guard, *values)
        self.copying = False

    def some(self, source: Access, from_: Any, guard: Any, given: Any) -> tuple[np.ndarray, ...]:
        """What copies bring that read fewer bytes than they write."""
        lanes = self.running()
        on = np.broadcast_to(True if guard is None else guard, lanes)
        count = np.minimum(np.broadcast_to(given, lanes).astype(np.int64), source.size)
        data = np.zeros((lanes, source.size), np.uint8)
        for size in np.unique(count[on & (count > 0)]).tolist():
            mine = on & (count == size)
            kind, width = ("b8", 1) if size % WORD else ("b32", WORD)
            part = replace(source, kind=kind, lanes=size // width)
            for i, value in enumerate(self.load(part, from_[0], from_[1], mine)):
                whole = np.ascontiguousarray(np.broadcast_to(value, lanes)).astype(DTYPES[kind])
                data[mine, i * width : (i + 1) * width] = whole.view(np.uint8).reshape(lanes, width)[mine]
        return tuple(data.view(np.uint32).T)

    def watch(
        self, access: Access, space: str, at: np.ndarray, place: np.ndarray, store: bool, values: Any
    ) -> None:
        base = at + (place // self.threads) * self.stride
        if self.copied and space == "shared" and not self.copying:
            self.early(access, base, place, store)
        super().watch(access, space, at, place, store, values)
        if self.copying and store:
            for word in range(access.size // WORD):
                where = base // WORD + word
                self.owner[where], self.batch[where] = place + 1, self.group[place]
                self.from_line[where] = access.line
            self.flying.append((access, at, place, self.group[place], values))

    def early(self, access: Access, base: np.ndarray, place: np.ndarray, store: bool) -> None:
        """Hold an access against the copies that are still under way."""
        for offset in range(0, max(access.size, WORD), WORD):
            where = (base + offset) // WORD
            owner = self.owner[where]
            soon = (owner > 0) & (self.batch[where] >= self.arrived[owner - 1])
            if soon.any():
                i = int(np.argmax(soon))
                byte = int(base[i]) % self.stride + offset
                whose = self.named(int(owner[i]) - 1)
                copy = f"the copy of line {self.from_line[where[i]]} by {whose}"
                does = f"{'writes' if store else 'reads'} byte {byte} of shared memory"
                what = f"{does} while {copy} is under way: nobody has waited for its group"
                self.wrong("async_not_waited", access, place[i], what)
                return

    def commit_group(self, count: int, guard: Any) -> None:
        """What a thread copied since its last group is a group."""
        self.group[self.current(guard)[0]] += 1

    def wait_all(self, count: int, guard: Any) -> None:
        """A thread waits for all that it copied."""
        self.commit_group(0, guard)
        self.wait_group(0, guard)

    def wait_group(self, count: int, guard: Any) -> None:
        """A thread waits for all its groups but the last few."""
        place, _ = self.current(guard)
        self.arrived[place] = np.maximum(self.arrived[place], self.group[place] - count)
        flying, self.flying = self.flying, []
        for access, at, who, group, values in flying:
            here = group < self.arrived[who]
            if here.any():
                part = tuple(np.broadcast_to(v, who.shape)[here] for v in values)
                base = at[here] + (who[here] // self.threads) * self.stride
                self.race(self.shadow_shared, access, base, who[here], part)
            if not here.all():
                rest = tuple(np.broadcast_to(v, who.shape)[~here] for v in values)
                self.flying.append((access, at[~here], who[~here], group[~here], rest))
