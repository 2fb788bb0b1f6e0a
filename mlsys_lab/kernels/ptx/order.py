"""What fences and atomics order between blocks.

A thread that runs a fence and then an atomic hands on what its block has done; a thread that reads the
same place by an atomic, or by a volatile or acquiring load, has it. Clocks are kept per block, as vectors
over blocks (Lamport 1978; Mattern 1989).
"""

from __future__ import annotations

import numpy as np

MOST_BLOCKS = 4096


class Order:
    """See the module.

    Args:
        blocks: of the launch.
        threads: in a block, whole warps.
    """

    def __init__(self, blocks: int, threads: int) -> None:
        self.blocks, self.threads = blocks, threads
        self.released = np.zeros(blocks, np.int32)  # how often a block has handed on
        self.fenced = np.zeros(blocks * threads, bool)
        self.known: dict[int, np.ndarray] = {}  # block -> releases that it has seen of each
        self.at: dict[int, np.ndarray] = {}  # place in memory -> what its readers will know

    def fence(self, who: np.ndarray) -> None:
        """Threads run a fence."""
        self.fenced[who] = True

    def meet(self, where: np.ndarray, who: np.ndarray, writes: bool) -> None:
        """Threads reach places by an atomic, which writes, or by a load that acquires; in order."""
        for place, thread in zip(where.tolist(), who.tolist(), strict=True):
            block = thread // self.threads
            there = self.at.get(place)
            if there is not None:
                mine = self.known.setdefault(block, np.zeros(self.blocks, np.int32))
                np.maximum(mine, there, out=mine)
            if writes and self.fenced[thread]:
                self.released[block] += 1
                mine = self.known.setdefault(block, np.zeros(self.blocks, np.int32))
                mine[block] = self.released[block]
                self.at[place] = mine.copy() if there is None else np.maximum(mine, there)

    def before(self, earlier: np.ndarray, release: np.ndarray, now: np.ndarray) -> np.ndarray:
        """Whether accesses are ordered before others of other blocks.

        Args:
            earlier: blocks of the accesses that came first.
            release: how often their blocks had handed on by then.
            now: blocks of the later accesses.
        """
        out = np.zeros(len(earlier), bool)
        for block in np.unique(now):
            known = self.known.get(int(block))
            if known is not None:
                mine = now == block
                out[mine] = known[earlier[mine]] > release[mine]
        return out
