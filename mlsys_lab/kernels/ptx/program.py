"""A kernel, translated: its blocks of code, and where its parameters and variables lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mlsys_lab.kernels.ptx.code import Access, Immediate, Instruction, Kernel, Module, Variable
from mlsys_lab.kernels.ptx.flow import Block, blocks_of, destinations, touched
from mlsys_lab.kernels.ptx.pointers import watched
from mlsys_lab.kernels.ptx.table import refused
from mlsys_lab.kernels.ptx.translate import Translated, translate

ALL_LANES = (Immediate(-1), Immediate(0xFFFFFFFF))


@dataclass
class Program:
    """A kernel, translated.

    Raises:
        NotSimulated: an instruction is not known; names it and its line.
    """

    module: Module
    kernel: Kernel
    single: bool = False
    accesses: dict[int, Access] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.blocks: list[Block] = blocks_of(self.kernel, self.single)
        self.code: list[Translated] = [translate(self.kernel, b, self.accesses) for b in self.blocks]
        self.ranks = np.array([b.rank for b in self.blocks] + [len(self.blocks)], np.int32)
        self.watched = watched(self.kernel)
        near = [a for a in self.accesses.values() if a.space in ("global", "") and a.index in self.watched]
        self.finest = min([4, *(a.size for a in near)])
        self.meets = np.array([b.meeting is not None for b in self.blocks])
        closing = [b.closing if b.ends == "barrier" else None for b in self.blocks]
        self.barrier = np.array([constant(c, 0) for c in closing], np.int32)
        self.expected = np.array([constant(c, 1) for c in closing], np.int32)  # threads, 0: all that live
        places, self.parameter_bytes = laid_out(self.kernel.parameters)
        self.parameters = {v.name: (places[v.name], v.size) for v in self.kernel.parameters}
        local = [v for v in self.kernel.variables.values() if v.space == "local"]
        self.local, self.local_bytes = laid_out(local)
        variables = [*self.module.variables.values(), *self.kernel.variables.values()]
        shared = [v for v in variables if v.space == "shared"]
        self.shared, self.static_shared = laid_out([v for v in shared if v.size >= 0])
        for one in (v for v in shared if v.size < 0):  # `extern`: behind the others
            self.shared[one.name] = -(-self.static_shared // 16) * 16

    def shared_bytes(self, dynamic: int) -> int:
        """Shared memory of a block: its variables, and behind them what the launch asks for."""
        return max([self.static_shared, *(self.shared.values() if dynamic else ())]) + dynamic

    @cached_property
    def may_spin(self) -> bool:
        """Whether a thread may wait for another: it asks an atomic for its result, or loads anew."""
        reads = set().union(*(touched(i)[0] for i in self.kernel.code))
        return any(
            (i.op[0] == "atom" and destinations(i) & reads)
            or (i.op[0] == "ld" and {"volatile", "acquire", "relaxed"} & set(i.op))
            for i in self.kernel.code
        )

    @property
    def has_fence(self) -> bool:
        orders = {"membar", "fence", "acquire", "release", "acq_rel"}
        return any(
            (orders & set(i.op) and "proxy" not in i.op)
            or (i.op[1:2] == ("warp",) and i.operands[0] not in ALL_LANES)  # of a part of a warp
            for i in self.kernel.code
        )


def laid_out(variables: list[Variable]) -> tuple[dict[str, int], int]:
    """Where each of some variables lies, one behind the other, and the bytes that they take."""
    at, places = 0, {}
    for one in variables:
        at = -(-at // one.align) * one.align
        places[one.name] = at
        at += one.size
    return places, at


def constant(barrier: Instruction | None, place: int) -> int:
    """The number or the count of threads of a barrier, as far as it is written as a constant."""
    if barrier is None or place >= len(barrier.operands):
        return 0
    operand = barrier.operands[place]
    if not isinstance(operand, Immediate):
        raise refused(barrier, "a barrier whose number is computed")
    return operand.value
