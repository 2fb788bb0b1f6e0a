"""A kernel run on the simulator one instruction at a time, with every memory request written down.

What a request costs is what the machine's own counters rose by; where it went and what lies there afterwards
is read from the machine. A launch without the report keeps only totals, and a picture needs each lane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlsys_lab.kernels.arguments import placed
from mlsys_lab.kernels.budget import STEPS
from mlsys_lab.kernels.copies import Copying
from mlsys_lab.kernels.launch import CudaKernel
from mlsys_lab.kernels.ptx.code import Access, Instruction
from mlsys_lab.kernels.ptx.counts import Counts, Traffic
from mlsys_lab.kernels.ptx.flow import Block
from mlsys_lab.kernels.ptx.program import Program
from mlsys_lab.kernels.shuffles import Shuffling
from mlsys_lab.kernels.speech import Speaking


@dataclass(frozen=True)
class Request:
    """One memory instruction of the lanes that ran it together.

    Attributes:
        op: the PTX instruction's name.
        line: of the source.
        space: "global" or "shared".
        interval: barriers that the block had passed.
        threads: (lanes,) the threads that asked.
        word: (lanes,) which 4-byte word each asked for, from the array's or the shared memory's start.
        value: (lanes,) float32 that lies there once the instruction has run.
        warps: requests, one per warp with a lane that asks.
        cost: sectors of global memory, or wavefronts of shared memory.
        ideal: the fewest wavefronts possible; 0 for global memory.
    """

    op: str
    line: int
    space: str
    interval: int
    threads: np.ndarray
    word: np.ndarray
    value: np.ndarray
    warps: int
    cost: int
    ideal: int


class Listener(Speaking, Shuffling, Copying):
    """The machine, which also notes the instructions that it runs and the requests that they make."""

    def start(self, limit: int) -> None:
        super().start(limit)
        self.ran: list[Instruction] = []
        self.pending: list[tuple[Access, str, int, np.ndarray, np.ndarray, tuple[int, ...]]] = []

    def execute(self, here: int, block: Block) -> Any:
        self.ran.append(block.closing or self.program.kernel.code[block.first])
        return super().execute(here, block)

    def watch(
        self, access: Access, space: str, at: np.ndarray, place: np.ndarray, store: bool, values: Any
    ) -> None:
        before = self.cost(access, space)
        super().watch(access, space, at, place, store, values)
        rose = tuple(b - a for a, b in zip(before, self.cost(access, space), strict=True))
        self.pending.append((access, space, int(self.interval[0]), place.copy(), at.copy(), rose))

    def cost(self, access: Access, space: str) -> tuple[int, int, int]:
        """What the counters say of one instruction: requests, sectors or wavefronts, fewest wavefronts."""
        one = self.counts.traffic.get((access.index, space), Traffic(access, space))
        return one.requests, one.sectors + one.wavefronts, one.ideal

    def heard(self) -> list[Request]:
        """The requests of the last step, with what lies at their addresses now."""
        found = []
        for access, space, interval, place, at, (warps, cost, ideal) in self.pending:
            memory = self.shared if space == "shared" else self.arena.data
            first = 0 if space == "shared" else getattr(self.arena.holding(int(at[0])), "start", 0)
            op, value = self.program.kernel.code[access.index].name, memory.view(np.float32)[at // 4]
            words = (at - first) // 4
            found.append(Request(op, access.line, space, interval, place, words, value, warps, cost, ideal))
        self.pending.clear()
        return found


def listen(source: str, threads: int, *arguments: Any) -> tuple[list[Instruction], list[Request], CudaKernel]:
    """Run one block of a kernel whose memory holds float32, one instruction at a time.

    Args:
        source: CUDA C++ with one kernel.
        threads: of the block, a multiple of 32.
        arguments: arrays and numbers; arrays are changed in place.

    Returns:
        The instructions in the order in which they ran (each once for all lanes that ran it together), the
        requests to global and shared memory, and the kernel.

    Raises:
        NoFrontEnd: no compiler for CUDA C++ is installed; names the command that installs one.
    """
    kernel = CudaKernel(source)
    program = Program(kernel.module, kernel.module.kernels[kernel.name], single=True)
    arena, data = placed(program, kernel.parameters, arguments)
    block, shared = (threads, 1, 1), program.shared_bytes(0)
    machine = Listener(program, (1, 1, 1), block, 0, 1, arena, shared, Counts(), data)
    symbols = {**program.shared, **program.local, **arena.symbols}
    machine.values |= {name: np.uint64(at) for name, at in symbols.items()}
    machine.start(STEPS)
    requests: list[Request] = []
    with np.errstate(all="ignore"):
        while machine.step():
            requests += machine.heard()
    arena.copy_back()
    return machine.ran, requests, kernel
