"""Masks of warp instructions: each lane that a mask names and that has not exited must come.

A lane that is past the instruction while others wait there for it, and that exits without it, has broken the
rule (CUDA C++ Programming Guide, "Warp Shuffle Functions"). One that went straight to the return, or on a way
of its own, counts as exited.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.flow import Block, post_dominators
from mlsys_lab.kernels.ptx.lanes import WARP
from mlsys_lab.kernels.ptx.machine import Machine


class Masked(Machine):
    """The machine, which records masks that name lanes that never come."""

    def start(self, limit: int) -> None:
        super().start(limit)
        self.passed: dict[int, np.ndarray] = {}  # block of code -> lanes, by place, that are past its start
        self.later: dict[int, np.ndarray] = {}

    @cached_property
    def after(self) -> list[set[int]]:
        return post_dominators(self.program.blocks)

    def behind(self, here: int) -> np.ndarray:
        """Which blocks of code every way from this one passes, returns that do nothing else left out."""
        if here not in self.later:
            blocks = self.program.blocks
            found = np.zeros(len(blocks), bool)
            found[[b for b in self.after[here] - {here, len(blocks)} if not bare(blocks[b])]] = True
            self.later[here] = found
        return self.later[here]

    def waiting_for_the_warp(self) -> np.ndarray:
        waiting = super().waiting_for_the_warp()
        for here in np.unique(self.at[waiting]).tolist() if waiting.any() else ():
            warps = np.unique(self.place[waiting & (self.at == here)] >> 5)
            late = self.behind(here)[self.at] & np.isin(self.place >> 5, warps)
            if late.any():
                nobody = np.zeros(self.blocks * self.threads, bool)
                self.passed.setdefault(here, nobody)[self.place[late]] = True
        return waiting

    def execute(self, here: int, block: Block) -> Any:
        if here in self.passed:
            some = np.arange(len(self.place)) if self.rows is None else self.rows
            self.passed[here][self.place[some]] = False
            if self.passed[here].any():
                self.hold(here, some)
        return super().execute(here, block)

    def stuck(self) -> str:
        for here in self.passed:
            self.hold(here, np.flatnonzero((self.at == here) & (self.waits < 0)))
        return super().stuck()

    def hold(self, here: int, some: np.ndarray) -> None:
        """Hold the mask of some lanes that are there against those that passed by."""
        one = self.program.blocks[here].meeting
        assert one is not None
        masks = np.broadcast_to(self.members(here), len(self.place))
        warps = self.place[some] >> 5
        late = np.any(self.passed[here].reshape(-1, WARP), axis=1)
        for warp in np.unique(warps[late[warps]]).tolist():
            mine = some[warps == warp]
            mask = int(masks[mine[0]])
            missing = np.flatnonzero(self.passed[here][WARP * warp : WARP * (warp + 1)])
            if any(mask >> lane & 1 for lane in missing.tolist()):
                what = "__syncwarp" if one.op[0] in ("bar", "barrier") else one.op[0]
                numbers = f"names {mask.bit_count()} lanes, {len(mine)} run it"
                who = f"{self.named(int(self.place[mine[0]]))} is one of them"
                message = f"line {one.line}: the mask of {what} {numbers}; {who}"
                self.counts.error("divergent_barrier", one.line, message)
                return


def bare(block: Block) -> bool:
    """Whether it is a return and nothing else."""
    return block.ends == "exit" and block.guard is None and block.first == block.last
