"""Launches whose blocks wait for each other: the barrier of the whole grid, `this_grid().sync()`.

CUDA's own code of it counts blocks in a word of memory that the driver hands over in two special registers,
and spins there (`cooperative_groups/details/sync.h`). The machine runs that code as it stands. All blocks
have to be there at once for it: a grid that the GPU cannot hold is refused, as a cooperative launch is.
"""

from __future__ import annotations

import numpy as np

from mlsys_lab.kernels.frontend import nvrtc
from mlsys_lab.kernels.ptx.code import Kernel
from mlsys_lab.kernels.ptx.flow import names
from mlsys_lab.kernels.ptx.machine import Stopped
from mlsys_lab.kernels.ptx.memory import Arena
from mlsys_lab.kernels.ptx.pointers import origins
from mlsys_lab.kernels.residency import GPUS, blocks_resident, resources
from mlsys_lab.kernels.spin import Look, Spinning

UPPER, LOWER = "%envreg1", "%envreg2"  # halves of the address of the barrier's memory
WORKSPACE, WORD = 64, 4  # bytes


def is_cooperative(kernel: Kernel) -> bool:
    """Whether a kernel asks for the barrier of its grid."""
    return any(UPPER in names(o) for one in kernel.code for o in one.operands)


def give_workspace(kernel: Kernel, arena: Arena) -> None:
    """Place the memory of the grid's barrier, where the kernel asks for it."""
    if is_cooperative(kernel):
        address = arena.add("the barrier of the grid", WORKSPACE, WORD)
        arena.symbols |= {UPPER: address >> 32, LOWER: address & 0xFFFFFFFF}


def check_grid(source: str, name: str, arch: str, blocks: int, threads: int, shared: int) -> None:
    """Refuse a grid whose blocks do not all fit on the GPU of an architecture.

    Args:
        source: CUDA C++.
        name: the kernel.
        arch: `sm_90`; one of which no GPU is known here sets no limit.
        blocks: of the grid.
        threads: of a block.
        shared: bytes of a block, dynamic shared memory included.

    Raises:
        ValueError: says how many blocks fit.
    """
    gpu = next((name for name, one in GPUS.items() if one.arch == arch.removesuffix("a")), "")
    if not gpu:
        return
    registers = resources(source, arch)[name].registers if nvrtc() is not None else 0
    limits = blocks_resident(GPUS[gpu], threads, registers, shared)
    each, count = min(limits.values()), GPUS[gpu].count
    if blocks > each * count:
        held = " and ".join(what for what, n in limits.items() if n == each)
        raise ValueError(
            f"{name} waits for its whole grid, and {gpu} ({arch}) holds {each * count} blocks of {threads} "
            f"threads at once ({each} on each of {count} multiprocessors, held by {held}), got {blocks}: "
            "take fewer blocks, and give each more of the work"
        )


class Cooperative(Spinning):
    """The machine, which tells of a barrier of the grid that not all blocks reach."""

    def start(self, limit: int) -> None:
        super().start(limit)
        known = origins(self.program.kernel) if UPPER in self.values else {}
        self.of_grid = {name for name, found in known.items() if UPPER in found}

    def waits_for_grid(self, here: int) -> bool:
        """Whether a block of code asks whether the grid's barrier has opened."""
        asks = [one for one in self.code_of(here) if one.op[0] == "ld"]
        return any(names(one.operands[1]) & self.of_grid for one in asks)

    def give_up(self, look: Look) -> None:
        at = self.where()
        waiting = [here for here in np.unique(at).tolist() if self.waits_for_grid(here)]
        if not waiting:
            super().give_up(look)
        line = min(self.code_of(here)[0].line for here in waiting)
        blocks = len(np.unique(self.place[np.isin(at, waiting)] // self.threads))
        raise Stopped(
            "deadlock",
            line,
            f"deadlock: {blocks} of {self.blocks} blocks wait for the whole grid in line {line}, and the "
            "others never come",
        )
