"""The machine: all lanes of a chunk of blocks as arrays, one basic block of code at a time.

Each warp runs those of its lanes that have the lowest rank; lanes of all warps that are at the same block run
together. Lanes at a barrier wait until all threads of their block that have not exited are there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.code import Immediate
from mlsys_lab.kernels.ptx.flow import Block, destinations, touched
from mlsys_lab.kernels.ptx.table import DTYPES, refused
from mlsys_lab.kernels.ptx.tensor_core import TensorCore
from mlsys_lab.kernels.ptx.warp import BARRIERS

PATIENCE, BURST = 64, 64  # after how many steps those that waited longest run, and for how many


class Stopped(Exception):
    """The launch cannot go on: `kind` is "deadlock", "step_limit" or "trap"."""

    def __init__(self, kind: str, line: int, message: str) -> None:
        super().__init__(message)
        self.kind, self.line, self.message = kind, line, message


class Machine(TensorCore):
    """Runs one chunk of blocks; see `Memory`, `Warp` and `Lanes` for what instructions ask of it."""

    def start(self, limit: int) -> None:
        """Put every lane at the first block of code; `limit` is how many steps there may be."""
        self.limit = limit
        count = len(self.place)
        self.at = np.zeros(count, np.int32)
        self.waits = np.full(count, -1, np.int32)  # the block of code whose barrier a lane waits at
        self.stamp = np.zeros(count, np.int64)
        self.steps = self.patient_until = 0
        self.patient = self.place[:0]
        self.together = 0  # where all lanes are, or -1
        self.told = np.zeros((2, self.blocks * BARRIERS), np.int64)
        self.outcome = self.told.copy()

    def run(self) -> None:
        """Run to the end.

        Raises:
            Stopped: a deadlock, or the limit of steps.
        """
        while self.step():
            pass

    def step(self) -> bool:
        """Run one block of code for those whose turn it is; False when all lanes have ended."""
        if not len(self.place):
            return False
        self.steps += 1
        if self.steps > self.limit:
            line = self.line_of(self.together if self.together >= 0 else int(self.at[0]))
            raise Stopped(
                "step_limit",
                line,
                f"line {line}: no end within {self.limit:,} steps: an infinite loop? (steps=... allows more)",
            )
        if self.together >= 0:
            self.rows, here = None, self.together
        else:
            here = self.choose()
        block = self.program.blocks[here]
        guard = self.execute(here, block)
        if block.ends == "barrier":
            self.arrive(here, block)
        elif block.ends == "next":
            self.go(block.after)
        elif block.guard is None:
            self.go(block.target)
        else:
            self.part(guard, block)
        return True

    def line_of(self, here: int) -> int:
        block, code = self.program.blocks[here], self.program.kernel.code
        return code[min(block.first, len(code) - 1)].line

    def choose(self) -> int:
        """The block of code to run next; sets `rows` to the lanes that run it."""
        ready = (self.waits < 0) & ~self.waiting_for_the_warp()
        if not ready.any():
            here = int(max(self.waits[0], self.at[0]))
            raise Stopped("deadlock", self.line_of(here), self.stuck())
        here = self.turn_of_the_patient(ready)
        if here < 0:
            ranks = np.where(ready, self.program.ranks[self.at], np.int32(2**30))
            warps = self.place >> 5
            starts = np.flatnonzero(np.diff(warps, prepend=-1))
            least = np.minimum.reduceat(ranks, starts)
            lowest = np.repeat(least, np.diff(np.append(starts, len(warps))))
            turn = ready & (ranks == lowest)
            first = np.flatnonzero(turn)
            here = int(self.at[first[np.argmin(ranks[first])]])
            self.rows = np.flatnonzero(turn & (self.at == here))
        assert self.rows is not None
        self.stamp[self.rows] = self.steps
        if len(self.rows) == len(self.place):
            self.rows, self.together = None, here
        return here

    def waiting_for_the_warp(self) -> np.ndarray:
        """Lanes at an instruction of their warp that some lane which it names has not reached."""
        waiting = np.zeros(len(self.place), bool)
        there = self.program.meets[self.at] & (self.waits < 0)
        for here in np.unique(self.at[there]):
            rows = np.flatnonzero(there & (self.at == here))
            warps = self.place >> 5
            bit = np.uint64(1) << (self.place & 31).astype(np.uint64)
            alive = np.zeros(int(warps[-1]) + 1, np.uint64)
            np.bitwise_or.at(alive, warps, bit)
            present = np.zeros_like(alive)
            np.bitwise_or.at(present, warps[rows], bit[rows])
            named = np.broadcast_to(self.members(here), len(self.place))[rows].astype(np.uint64)
            waiting[rows] = (named & alive[warps[rows]] & ~present[warps[rows]]) != 0
        return waiting

    def members(self, here: int) -> Any:
        """The lanes that the instruction at the start of a block of code names, as bits."""
        one = self.program.blocks[here].meeting
        assert one is not None
        if one.op[0] in ("mma", "wmma", "ldmatrix"):
            return np.uint64(0xFFFFFFFF)
        operand = one.operands[0 if one.op[0] in ("bar", "barrier") else -1]
        if isinstance(operand, Immediate):
            return np.uint64(operand.value & 0xFFFFFFFF)
        return self.values[operand.name].view(np.uint32).astype(np.uint64)

    def turn_of_the_patient(self, ready: np.ndarray) -> int:
        """Every so often those that waited longest run for a while: what they do may free the others.

        Only where threads can wait for each other: elsewhere it would part lanes that are about to meet.

        Returns:
            The block of code that they are at, with `rows` set; -1 when it is not their turn.
        """
        if not self.program.may_spin:
            return -1
        if self.steps % PATIENCE == 0:
            candidates = np.flatnonzero(ready)
            oldest = candidates[np.argmin(self.stamp[candidates])]
            if self.steps - self.stamp[oldest] < PATIENCE:
                return -1
            self.patient = self.place[ready & (self.at == self.at[oldest])]
            self.patient_until = self.steps + BURST
        if self.steps >= self.patient_until:
            return -1
        mine = np.flatnonzero(ready & np.isin(self.place, self.patient))
        if not len(mine):
            return -1
        here = int(self.at[mine[np.argmin(self.program.ranks[self.at[mine]])]])
        warps = np.unique(self.place[mine[self.at[mine] == here]] >> 5)
        self.rows = np.flatnonzero(ready & (self.at == here) & np.isin(self.place >> 5, warps))
        return here

    def stuck(self) -> str:
        places = np.unique(np.where(self.waits >= 0, self.waits, self.at))
        blocks = [self.program.blocks[int(b)] for b in places]
        lines = sorted({one.line for b in blocks for one in [b.closing or b.meeting] if one is not None})
        where = ", ".join(map(str, lines))
        return f"deadlock: threads wait for others in line {where}, and those never come"

    def execute(self, here: int, block: Block) -> Any:
        """Run a block of code; its guard's value."""
        rows, code = self.rows, self.program.code[here]
        values = [self.values[n] if n in self.values else self.unset(n, block) for n in block.reads]
        if rows is not None:
            values = [v[rows] if getattr(v, "ndim", 0) else v for v in values]
        self.count(here)
        results = code.run(self, *values)
        for name, value in zip(block.writes, results, strict=False):
            self.values[name] = value if rows is None else self.scattered(self.values.get(name), value, rows)
        return results[-1] if block.guard is not None else None

    def unset(self, name: str, block: Block) -> Any:
        """Zero for a register that no lane has written; an error where an instruction takes its value."""
        kernel = self.program.kernel
        for one in [*kernel.code[block.first : block.last], *([block.closing] if block.closing else [])]:
            read = touched(one)[0] - (destinations(one) if one.guard is not None else set())
            if name in read and name[0] == "%" and name not in kernel.registers:
                raise refused(one, f"{one.name} of {name}")
            if name in read:
                message = f"line {one.line}: reads a variable that nobody has set"
                self.counts.error("uninitialised", one.line, message)
                break
        return DTYPES[kernel.registers.get(name, "b64")](0)

    def scattered(self, before: Any, value: Any, rows: np.ndarray) -> Any:
        """A register after some lanes wrote it."""
        whole = np.zeros(len(self.place), value.dtype)
        if before is not None:
            whole[:] = before.view(value.dtype)
        whole[rows] = value
        return whole

    def go(self, target: int) -> None:
        """Move the lanes that ran."""
        if target == len(self.program.blocks):
            self.leave(self.rows)
        elif self.rows is None:
            self.together = target
        else:
            self.at[self.rows] = target
            self.gather()

    def part(self, guard: Any, block: Block) -> None:
        """A branch or an exit under a guard."""
        if not getattr(guard, "ndim", 0):
            self.go(block.target if guard else block.after)
            return
        if guard.all():
            self.go(block.target)
        elif not guard.any():
            self.go(block.after)
        else:
            if self.rows is None:
                self.at[:] = np.where(guard, block.target, block.after)
                self.together = -1
                gone = np.flatnonzero(guard)
            else:
                self.at[self.rows] = np.where(guard, block.target, block.after)
                gone = self.rows[guard]
            if block.target == len(self.program.blocks):
                self.leave(gone)
            else:
                self.gather()

    def gather(self) -> None:
        """Note when all lanes are at the same place again."""
        first = int(self.at[0])
        if self.together < 0 and not (self.waits >= 0).any() and (self.at == first).all():
            self.together = first

    def leave(self, rows: np.ndarray | None) -> None:
        """These lanes have ended."""
        if self.together >= 0:
            self.at[:] = self.together
        stay = np.ones(len(self.place), bool)
        stay[slice(None) if rows is None else rows] = False
        kept = np.flatnonzero(stay)
        self.at, self.waits, self.stamp = self.at[kept], self.waits[kept], self.stamp[kept]
        self.keep(kept)
        if len(kept):
            self.together = -1
            self.release()
            self.gather()

    def arrive(self, here: int, block: Block) -> None:
        """Lanes reach a barrier."""
        if self.rows is None and not self.program.expected[here]:  # all that live: every barrier is full
            self.opened(np.arange(self.blocks) * BARRIERS + self.program.barrier[here])
            self.passed_barrier(None)
            self.together = block.after
            return
        if self.together >= 0:
            self.at[:], self.together = here, -1
        self.waits[slice(None) if self.rows is None else self.rows] = here
        self.release()
        self.gather()

    def release(self) -> None:
        """Let go of blocks all of whose living threads wait."""
        waiting = self.waits >= 0
        if not waiting.any():
            return
        block_of = self.place // self.threads
        living = np.bincount(block_of, minlength=self.blocks)
        rows = np.flatnonzero(waiting)
        key = block_of[rows] * BARRIERS + self.program.barrier[self.waits[rows]]
        held = np.bincount(key, minlength=self.blocks * BARRIERS)
        wanted = np.repeat(living, BARRIERS)
        counted = self.program.expected[self.waits[rows]]
        wanted[key[counted > 0]] = counted[counted > 0]
        full = (held > 0) & (held >= wanted)
        free = rows[full[key]]
        if not len(free):
            return
        self.opened(np.flatnonzero(full))
        places, first = self.waits[free], np.zeros(self.blocks * BARRIERS, np.int32)
        first[key[full[key]]] = places
        if (places != first[key[full[key]]]).any():
            self.divergent_barrier(free, places)
        self.at[free] = np.array([b.after for b in self.program.blocks], np.int32)[places]
        self.waits[free] = -1
        self.passed_barrier(np.unique(block_of[free]))

    def divergent_barrier(self, rows: np.ndarray, places: np.ndarray) -> None:
        closings = [self.program.blocks[int(p)].closing for p in np.unique(places)]
        lines = sorted({one.line for one in closings if one is not None})
        where = ", ".join(map(str, lines))
        message = f"threads of one block wait at different __syncthreads(), in lines {where}"
        self.counts.error("divergent_barrier", lines[0], message)
