"""A launch on the simulator: chunks of blocks, one after the other, and the report of what they did."""

from __future__ import annotations

import traceback
from typing import Any

import numpy as np

from mlsys_lab.kernels.budget import Budget, Budgeted
from mlsys_lab.kernels.calls import STACK_BYTES
from mlsys_lab.kernels.cooperative import Cooperative, is_cooperative
from mlsys_lab.kernels.copies import Copying
from mlsys_lab.kernels.ptx.counts import Counts
from mlsys_lab.kernels.ptx.flow import Block
from mlsys_lab.kernels.ptx.machine import Machine, Stopped
from mlsys_lab.kernels.ptx.memory import Arena
from mlsys_lab.kernels.ptx.order import Order
from mlsys_lab.kernels.ptx.program import Program
from mlsys_lab.kernels.ptx.races import Found, Shadow
from mlsys_lab.kernels.ptx.table import NotSimulated, refused
from mlsys_lab.kernels.race import Race
from mlsys_lab.kernels.report import Report
from mlsys_lab.kernels.rounds import Rounds, Ways
from mlsys_lab.kernels.shuffles import Shuffling
from mlsys_lab.kernels.speech import Speaking

CHUNK = 1 << 16  # lanes that run together
Triple = tuple[int, int, int]


class Watched(Budgeted, Cooperative, Rounds, Speaking, Shuffling, Copying):
    """The machine, with what is watched beside memory; a trap stops it."""

    def execute(self, here: int, block: Block) -> Any:
        guard = super().execute(here, block)
        if block.closing and block.closing.op[0] == "trap" and len(who := self.current(guard)[0]):
            line = block.closing.line
            lane = f"line {line}: {self.named(int(who[0]))}"
            if "stack" in block.closing.op:
                raise Stopped(
                    "stack_overflow", line, f"{lane} has filled its stack of {STACK_BYTES:,} bytes with calls"
                )
            raise Stopped("trap", line, f"{lane} runs __trap(), which ends the launch")
        return guard


def simulate(
    program: Program,
    grid: Triple,
    block: Triple,
    dynamic_shared: int,
    arena: Arena,
    data: bytes,
    budget: Budget,
) -> Report:
    """Run a kernel over a grid; arguments are changed in place.

    Args:
        program: the kernel.
        grid: blocks along x, y, z.
        block: threads along x, y, z.
        dynamic_shared: bytes of `extern __shared__` memory.
        arena: global memory, with the arguments.
        data: the bytes of the parameters.
        budget: what it may take before it is given up.
    """
    counts = Counts()
    blocks = grid[0] * grid[1] * grid[2]
    threads = -(-(block[0] * block[1] * block[2]) // 32) * 32
    per = blocks if is_cooperative(program.kernel) else max(1, CHUNK // threads)
    shared_bytes = program.shared_bytes(dynamic_shared)
    granule = min([4, *(a.size for a in program.accesses.values() if a.space == "shared")])
    across, order = None, Order(blocks, threads) if program.has_fence else None
    if any(a.space in ("global", "") for a in program.accesses.values()):
        across = Shadow(len(arena.data), program.finest, threads, True, order)
    symbols = {**program.shared, **program.local, **arena.symbols}
    stopped, races, ways = "", list[Race](), Ways(program)
    with np.errstate(all="ignore"):
        for first in range(0, blocks, per):
            count = min(per, blocks - first)
            machine = Watched(program, grid, block, first, count, arena, shared_bytes, counts, data)
            if shared_bytes:
                machine.shadow_shared = Shadow(len(machine.shared), granule, threads, False, order)
            machine.shadow_global, machine.order = across, order
            machine.values |= {n: (np.uint32 if n[0] == "%" else np.uint64)(at) for n, at in symbols.items()}
            machine.ways, machine.budget = ways, budget
            machine.start(budget.steps)
            try:
                machine.run()
            except Stopped as reason:
                counts.error(reason.kind, reason.line, reason.message)
                stopped = reason.message
            except (NotSimulated, MemoryError):
                raise
            except Exception as reason:
                raise (blamed(program, reason) or reason) from reason
            if machine.shadow_shared is not None:
                races += [raced(machine, machine.shadow_shared, f) for f in machine.shadow_shared.found]
            if stopped:
                break
        if across is not None:
            races += [raced(machine, across, f) for f in across.found]
    arena.copy_back()
    unique = {(r.space, r.lines, r.kind): r for r in reversed(races)}
    return Report(program, counts, list(unique.values())[::-1], stopped)


def blamed(program: Program, error: Exception) -> NotSimulated | None:
    """An error within the function of a block of code, as one of the instruction that it came from."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        for block, code in zip(program.blocks, program.code, strict=True):
            if frame.f_code is code.run.__code__:
                passed = [int(text[3:]) for text in code.text.split("\n")[:line] if text.startswith(" # ")]
                one = program.kernel.code[passed[-1] if passed else block.first]
                return NotSimulated(f"{refused(one)}: {type(error).__name__}: {error}")
    return None


def raced(machine: Machine, shadow: Shadow, found: Found) -> Race:
    """A conflict in the terms of the launch."""
    places = [t - machine.first * machine.threads for t in found.threads]
    threads = [machine.thread_of(p) for p in places]
    blocks = [machine.block_of(p) for p in places]
    byte, space = found.granule * shadow.granule, "global" if shadow is machine.shadow_global else "shared"
    address = byte % machine.stride if space == "shared" else byte
    what = f"byte {address} of shared memory" if space == "shared" else machine.arena.described(byte)
    lines = found.lines
    where = f"line {lines[0]}" if lines[0] == lines[1] else f"lines {lines[0]} and {lines[1]}"
    message = (
        f"{found.kind} race on {what}, {where}: thread {threads[0]} of block {blocks[0]} and "
        f"thread {threads[1]} of block {blocks[1]}, and nothing orders them"
    )
    return Race(space, address, lines, (threads[0], threads[1]), (blocks[0], blocks[1]), found.kind, message)
