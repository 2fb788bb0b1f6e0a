"""Threads that pass by a barrier at which others of their block wait.

A thread comes to a barrier once in each round: it waits there, or it takes a way around it to what follows.
One that takes the way around while others wait in the same round has broken the rule, also where it exits
later and the barrier then opens (CUDA C++ Programming Guide, "Synchronization Functions"). One that returns
without more counts as exited. Rounds are counted only while lanes are apart: together they all do the same.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from mlsys_lab.kernels.masks import Masked, bare
from mlsys_lab.kernels.ptx.flow import Block, post_dominators
from mlsys_lab.kernels.ptx.program import Program
from mlsys_lab.kernels.ptx.warp import BARRIERS


class Ways:
    """Around the barriers of a program; made once for a launch."""

    def __init__(self, program: Program) -> None:
        self.program = program

    @cached_property
    def near(self) -> list[list[tuple[int, bool]]]:
        """For each block of code, the barriers that it leads to (True) or that it is behind (False)."""
        blocks, found = self.program.blocks, [list[tuple[int, bool]]() for _ in self.program.blocks]
        after = post_dominators(blocks)
        leading: list[list[int]] = [[] for _ in range(len(blocks) + 1)]
        for here, block in enumerate(blocks):
            for way in block.successors:
                leading[way].append(here)
        for barrier, block in enumerate(blocks):
            if block.ends != "barrier" or self.program.expected[barrier]:
                continue
            behind = {b for b in after[barrier] - {barrier, len(blocks)} if not bare(blocks[b])}
            before, open_ = set[int](), [barrier]
            while open_:
                new = {
                    b for b in leading[open_.pop()] if b not in before and b not in behind and b != barrier
                }
                before |= new
                open_ += new
            for here in before:
                found[here].append((barrier, True))
            for here in behind:
                found[here].append((barrier, False))
        return found


class Rounds(Masked):
    """The machine, which records barriers that threads pass by."""

    ways: Ways

    def start(self, limit: int) -> None:
        super().start(limit)
        self.rounds: dict[int, np.ndarray] = {}  # barrier -> of each lane, by place
        self.coming: dict[int, np.ndarray] = {}  # barrier -> lanes that are on a way to it
        self.last = 0

    def of(self, barrier: int) -> tuple[np.ndarray, np.ndarray]:
        """Rounds of a barrier, and who is coming to it."""
        if barrier not in self.rounds:
            self.rounds[barrier] = np.zeros(self.blocks * self.threads, np.int32)
            self.coming[barrier] = np.zeros(self.blocks * self.threads, bool)
        return self.rounds[barrier], self.coming[barrier]

    def execute(self, here: int, block: Block) -> Any:
        self.last = here
        if self.together < 0:
            self.move(here, self.current()[0])
        return super().execute(here, block)

    def move(self, here: int, place: np.ndarray) -> None:
        """Lanes come to a block of code."""
        for barrier, leads in self.ways.near[here]:
            rounds, coming = self.of(barrier)
            if leads:
                coming[place] = True
            else:
                rounds[place[coming[place]]] += 1
                coming[place] = False

    def part(self, guard: Any, block: Block) -> None:
        together = self.together >= 0
        super().part(guard, block)
        if together and self.together < 0:
            for coming in self.coming.values():
                coming[:] = False
            self.move(self.last, self.place)

    def arrive(self, here: int, block: Block) -> None:
        if self.together < 0:
            rounds, coming = self.of(here)
            place = self.current()[0]
            rounds[place] += 1
            coming[place] = False
        super().arrive(here, block)

    def opened(self, keys: np.ndarray) -> None:
        super().opened(keys)
        waiting = np.flatnonzero(self.waits >= 0) if self.together < 0 else self.place[:0]
        barriers = np.unique(self.waits[waiting]).tolist() if self.together < 0 else [self.together]
        living = np.bincount(self.place // self.threads, minlength=self.blocks)
        some_are_gone = bool((living[keys // BARRIERS] < self.size).any())
        for barrier in barriers:
            closing = self.program.blocks[barrier].closing
            if some_are_gone and closing is not None and not self.program.expected[barrier]:
                self.counts.short.add(closing.line)
            if barrier in self.rounds and len(waiting):
                rows = waiting[self.waits[waiting] == barrier]
                opens = np.isin(
                    self.place[rows] // self.threads * BARRIERS + self.program.barrier[barrier], keys
                )
                self.judge(barrier, self.place[rows[opens]])

    def judge(self, barrier: int, place: np.ndarray) -> None:
        """See whether somebody passed by a barrier that opens for some lanes."""
        rounds = self.rounds[barrier].reshape(self.blocks, self.threads)
        mine, blocks = self.rounds[barrier][place], place // self.threads
        least = np.full(self.blocks, np.iinfo(np.int32).max)
        np.minimum.at(least, blocks, mine)
        late = rounds >= least[:, None]
        late.reshape(-1)[place[mine == least[blocks]]] = False
        if late.any():
            closing, who = self.program.blocks[barrier].closing, int(np.flatnonzero(late)[0])
            line = closing.line if closing is not None else 0
            message = f"line {line}: {self.named(who)} passes by this __syncthreads(), others wait there"
            self.counts.error("divergent_barrier", line, message)
