"""What fences and strong accesses order between threads: vector clocks (Lamport 1978; Mattern 1989).

A fence marks what its thread has done and knows; a strong write of the thread lays that down at its place,
and who reads the place strongly has it after a fence of its own. Barriers join the threads that they name. A
fence or access of block scope counts within its block only. A clock counts a thread's fences, a warp's and a
block's time. PTX ISA, "Memory Consistency Model"; more lenient in one thing: the block's barrier also counts
as the fence of the reader, since CUDA's example of the last block relies on that.
"""

from __future__ import annotations

from collections import defaultdict
from functools import reduce
from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.code import Access

MOST = 1 << 26  # numbers in all vectors together; beyond that everything counts as ordered
MARK = 64  # numbers whose memory a mark takes
STEPS = 1 << 12  # `__syncwarp`s of a warp that are told apart within one interval
THREAD = 0xFFFFFFFF  # the bits of a stamp that name the thread; above them stands the time
ANYWHERE = -1


class Chain:
    """What strong writes laid down at a place, in turn; the vector of the first so many is kept."""

    def __init__(self) -> None:
        self.marks: dict[tuple[int, ...], None] = {}
        self.done = 0, 0


class Order:
    """See the module.

    Args:
        blocks: of the launch.
        threads: in a block, whole warps.
    """

    def __init__(self, blocks: int, threads: int) -> None:
        self.threads, self.warps, total = threads, blocks * threads, blocks * threads
        self.groups = total + total // 32  # keys: threads, from `warps` on warps, from `groups` on blocks
        self.slot = np.zeros(self.groups + blocks, np.int32)  # of a key in the vectors; 0: none
        self.slots, self.spent, self.lost = 1, 0, False
        self.clock, self.view = np.zeros(total, np.int32), np.zeros(total, np.int32)  # view: a vector
        self.vectors = [np.zeros(1, np.int32)]
        self.marks = np.zeros((2, total, 3), np.int32)  # clock, time, view: for its block, and beyond
        self.due: defaultdict[int, dict[int, Any]] = defaultdict(dict)  # block -> thread -> what it read
        self.at: dict[int, dict[int, Chain]] = {}  # place in memory -> for which block
        self.changed: set[int] = set()  # blocks in which somebody knows more than the others

    def fence(self, stamps: np.ndarray, wide: bool) -> None:
        """Threads run a fence, of the whole GPU or of their block."""
        for thread in (stamps & THREAD).tolist() if self.due else ():
            self.take(thread, wide)
        self.mark(stamps, wide)

    def mark(self, stamps: np.ndarray, wide: bool) -> None:
        """Note what threads have done and know, for their strong writes to hand on."""
        who = stamps & THREAD
        self.clock[who] += 1
        self.marks[: 1 + wide, who] = np.stack([self.clock[who], stamps >> 32, self.view[who]], 1)

    def upto(self, chain: Chain, count: int) -> int:
        """The vector that knows the first so many marks of a chain."""
        done, known = chain.done if count >= chain.done[0] else (0, 0)
        if count > done and not self.lost:
            who, clock, time, views = np.array(list(chain.marks)[done:count]).T
            known = reduce(self.join, np.unique(views).tolist(), known)
            keys = np.stack([who, self.warps + who // 32, self.groups + who // self.threads])
            fresh = np.unique(keys[self.slot[keys] == 0])
            self.slot[fresh] = np.arange(self.slots, self.slots + len(fresh))
            self.slots += len(fresh)
            vector = np.zeros(self.slots, np.int32)
            vector[: len(self.vectors[known])] = self.vectors[known]
            np.maximum.at(vector, self.slot[keys], np.stack([clock, time, time // STEPS]).astype(np.int32))
            known = self.kept(vector)
            chain.done = count, known
        return known

    def kept(self, vector: np.ndarray) -> int:
        self.vectors.append(vector)
        self.spent += len(vector)
        self.lost |= self.spent > MOST
        return len(self.vectors) - 1

    def join(self, one: int, other: int) -> int:
        """The vector that knows what either does."""
        if one == other or not one or not other or self.lost:
            return one or other
        if len(self.vectors[one]) < len(self.vectors[other]):
            one, other = other, one
        a, b = self.vectors[one], self.vectors[other]
        whole = a.copy()
        np.maximum(a[: len(b)], b, out=whole[: len(b)])
        if (whole == a).all():
            return one
        return other if len(a) == len(b) and (whole == b).all() else self.kept(whole)

    def meet(self, where: np.ndarray, stamps: np.ndarray, access: Access) -> None:
        """Threads reach places by a strong access, one after the other."""
        wide = access.strong > 2
        for place, stamp in zip(where.tolist(), stamps.tolist(), strict=True) if not self.lost else ():
            thread, block = stamp & THREAD, (stamp & THREAD) // self.threads
            if access.releases:
                self.mark(np.array([stamp]), wide)
            near_and_far = (block, ANYWHERE)[: 1 + wide]
            if access.store:
                self.at.pop(place, None)
            for i, key in enumerate(near_and_far if place in self.at else ()):
                if chain := self.at[place].get(key):
                    self.due[block].setdefault(thread, ({}, {}))[i][chain] = len(chain.marks)
            if access.acquires:
                self.take(thread, wide)
            for i, key in enumerate(near_and_far if access.store or access.atomic else ()):
                if (mark := self.marks[i, thread].tolist())[0]:
                    self.at.setdefault(place, {}).setdefault(key, Chain()).marks[thread, *mark] = None
                    self.spent += MARK
            self.lost |= self.spent > MOST

    def take(self, thread: int, wide: bool) -> None:
        """A thread has what it read."""
        block, known = thread // self.threads, int(self.view[thread])
        for due in self.due.get(block, {}).get(thread, ())[: 1 + wide]:
            for chain, count in due.items():
                self.view[thread] = self.join(int(self.view[thread]), self.upto(chain, count))
            due.clear()
        if self.view[thread] != known:
            self.changed.add(block)

    def meet_up(self, stamps: np.ndarray) -> None:
        """Some threads of a warp meet: each has what all of them did and know."""
        who, chain = stamps & THREAD, Chain()
        self.clock[who] += 1
        mine = np.stack([who, self.clock[who], stamps >> 32, self.view[who]], 1)
        chain.marks = dict.fromkeys(map(tuple, mine.tolist()))
        self.view[who] = reduce(self.join, np.unique(self.view[who]).tolist(), self.upto(chain, len(who)))
        self.changed.add(int(who[0]) // self.threads)

    def barrier(self, blocks: set[int]) -> None:
        """Blocks pass a barrier."""
        for thread in [t for b in sorted(blocks & self.due.keys()) for t in self.due[b]]:
            self.take(thread, True)
        self.share([b * self.threads for b in blocks & self.changed], self.threads)
        self.changed -= blocks

    def share(self, firsts: list[int], count: int) -> None:
        """In rows of threads from some on, all know what one of them does."""
        for first in firsts:
            if first // self.threads in self.changed:
                views = self.view[first : first + count]
                views[:] = reduce(self.join, np.unique(views).tolist())

    def before(self, old: np.ndarray, clocks: np.ndarray, now: np.ndarray) -> np.ndarray:
        """Whether accesses are ordered before others.

        Args:
            old: stamps of those that came first.
            clocks: fences that their threads had run by then.
            now: threads of the later ones.
        """
        out, views = np.full(len(old), self.lost), self.view[now]
        for view in np.unique(views[views > 0]) if not self.lost else ():
            mine, vector = np.flatnonzero(views == view), self.vectors[view]
            was, time = old[mine] & THREAD, old[mine] >> 32
            keys = (was, self.warps + was // 32, self.groups + was // self.threads)
            for key, then in zip(keys, (clocks[mine], time, time // STEPS), strict=True):
                slot = self.slot[key]
                out[mine] |= vector[np.where(slot < len(vector), slot, 0)] > then
        return out
