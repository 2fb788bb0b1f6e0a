"""How long a launch may take: the seconds of computing after which the simulator gives up.

A count of steps alone says little, since a step may be one warp or a thousand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from mlsys_lab.kernels.ptx.machine import Machine, Stopped

STEPS, SECONDS = 2_000_000, 20.0


@dataclass
class Budget:
    """What a launch may spend, from when this is made.

    Attributes:
        steps: basic blocks of code that each chunk of blocks may run.
        seconds: of CPU time, for the whole launch.
        clock: that tells them.

    Raises:
        ValueError: one of them is not above 0.
    """

    steps: int = STEPS
    seconds: float = SECONDS
    clock: Callable[[], float] = time.process_time

    def __post_init__(self) -> None:
        for name, value in (("steps", self.steps), ("seconds", self.seconds)):
            if not value > 0:
                raise ValueError(f"{name} is what a launch may take, more than 0, got {value}")
        self.until = self.clock() + self.seconds


class Budgeted(Machine):
    """The machine, which gives up when its time is over."""

    budget: Budget

    def step(self) -> bool:
        """As the machine's.

        Raises:
            Stopped: also where the time is over.
        """
        if self.budget.clock() > self.budget.until and len(self.place):
            line = self.line_of(self.together if self.together >= 0 else int(self.at[0]))
            raise Stopped(
                "step_limit",
                line,
                f"line {line}: no end within {self.budget.seconds:g} s of computing: an infinite loop? "
                "(seconds=... allows more)",
            )
        return super().step()
