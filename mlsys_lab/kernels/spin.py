"""Threads that wait for ever, found without waiting for ever.

A lane that has come back to a place with everything that steers it as it was, while nobody changed a byte of
memory, comes back again and again. When that holds for all lanes that can run, the launch has no end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.code import Access, Instruction
from mlsys_lab.kernels.ptx.flow import Block, destinations, touched
from mlsys_lab.kernels.ptx.machine import Machine, Stopped

EVERY = 256  # steps between two looks; one that finds nothing makes the next look twice as long
#: What gives a lane the values of others: that a lane came back proves nothing where these run.
TOGETHER = ("shfl", "vote", "match", "redux", "activemask", "mma", "wmma", "ldmatrix")


@dataclass
class Look:
    """The lanes at one step, and what they did since.

    Attributes:
        until: the step at which this look ends.
        place, at, waits, values: of the machine, then.
        ran, came: which lanes ran since, and which of them came back.
        visited: blocks of code that ran since; `steering` are the registers that decide what these do.
        stores: places in memory that a step writes, and what was there.
    """

    until: int
    place: np.ndarray
    at: np.ndarray
    waits: np.ndarray
    values: dict[str, Any]
    ran: np.ndarray
    came: np.ndarray
    visited: set[int] = field(default_factory=set)
    steering: list[str] = field(default_factory=list)
    stores: list[tuple[Any, Any, bytes]] = field(default_factory=list)


class Spinning(Machine):
    """The machine, which gives up where threads spin on what nobody changes."""

    def start(self, limit: int) -> None:
        super().start(limit)
        self.look: Look | None = None
        self.length = EVERY

    def step(self) -> bool:
        """As the machine's.

        Raises:
            Stopped: also where nothing can change any more.
        """
        said = len(self.counts.printed)
        more, look = super().step(), self.look
        if look is None:
            if more and self.steps % EVERY == 0 and len(self.place):
                nobody = np.zeros(len(self.place), bool)
                at, waits = np.array(self.where()), self.waits.copy()
                until, values = self.steps + self.length, dict(self.values)
                self.look = Look(until, self.place, at, waits, values, nobody, nobody.copy())
            return more
        changed = any(view[index].tobytes() != before for view, index, before in look.stores)
        look.stores.clear()
        if changed or look.place is not self.place or said != len(self.counts.printed):
            self.look = None
        elif self.steps >= look.until:
            self.look, self.length = None, 2 * self.length
        else:
            self.compare(look)
        return more

    def where(self) -> np.ndarray:
        """The block of code that each lane is at."""
        return np.full(len(self.place), self.together) if self.together >= 0 else self.at

    def execute(self, here: int, block: Block) -> Any:
        if self.look is not None and here not in self.look.visited:
            self.look.visited.add(here)
            self.look.steering = self.steering(self.look.visited)
        return super().execute(here, block)

    def resolve(
        self, access: Access, address: Any, offset: int, guard: Any, store: bool, values: tuple[Any, ...] = ()
    ) -> tuple[Any, Any, np.ndarray | None]:
        found = super().resolve(access, address, offset, guard, store, values)
        if self.look is not None and store and found[1] is not None:
            for part in range(access.lanes):
                index = found[1] + part
                self.look.stores.append((found[0], index, found[0][index].tobytes()))
        return found

    def code_of(self, here: int) -> list[Instruction]:
        block = self.program.blocks[here]
        closing = [block.closing] if block.closing is not None else []
        return [*self.program.kernel.code[block.first : block.last], *closing]

    def steering(self, visited: set[int]) -> list[str]:
        """Registers on which the ways and the effects of these blocks of code depend."""
        code = [one for here in visited for one in self.code_of(here)]
        acting = [one for one in code if not destinations(one) or one.op[0] in ("atom", *TOGETHER)]
        found: set[str] = set().union(*(touched(one)[0] for one in acting))
        before = -1
        while before != len(found):
            before = len(found)
            for one in code:
                if destinations(one) & found:
                    found |= touched(one)[0]
        return sorted(found & set(self.program.kernel.registers))

    def compare(self, look: Look) -> None:
        """See which of the lanes that ran are as they were; stop when nothing is left to happen."""
        some: Any = slice(None) if self.rows is None else self.rows
        look.ran[some] = True
        if not self.program.may_spin:  # no turns: the same state again is followed by the same again
            if np.array_equal(look.at, self.where()) and np.array_equal(look.waits, self.waits):
                look.came[:] = self.same(look, slice(None))
                if look.came.all():
                    self.give_up(look)
            return
        if any(one.op[0] in TOGETHER for here in look.visited for one in self.code_of(here)):
            self.look = None
            return
        look.came[some] |= self.same(look, some)
        rest = ~look.came
        if not (rest & look.ran).any():
            waits = (self.waits >= 0) | self.waiting_for_the_warp() if self.together < 0 else np.False_
            if not (rest & ~waits).any() and look.came.any():
                self.give_up(look)

    def same(self, look: Look, some: Any) -> np.ndarray:
        """Which of some lanes are where they were, with the same in all steering registers."""
        out: np.ndarray = look.at[some] == self.where()[some]
        for name in look.steering if out.any() else ():
            now, then = self.values.get(name), look.values.get(name)
            if now is None or then is None:
                out = out & (now is then)
            elif now is not then:
                out = out & (bits(now, some) == bits(then, some))
        return out

    def give_up(self, look: Look) -> None:
        here = int(look.at[np.argmax(look.came & look.ran)])
        while self.program.blocks[here].ends == "next":
            here = self.program.blocks[here].after
        line = self.code_of(here)[-1].line  # of the branch back, as a rule
        message = f"threads spin in line {line} on what nobody changes: an infinite loop"
        raise Stopped("step_limit", line, message)


def bits(value: Any, some: Any) -> Any:
    """A register of some lanes, whatever its type."""
    whole = np.asarray(value)
    whole = whole.view(f"u{whole.itemsize}")
    return whole[some] if whole.ndim else whole
