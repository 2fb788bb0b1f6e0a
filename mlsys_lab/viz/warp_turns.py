"""A model of warps that take turns: one instruction is issued per cycle, and a load's result comes late.

The instructions are those that a warp really ran, with their registers; cycles are the model's. It leaves out
caches, pipelines of different depth and the limit on loads under way. After CUDA C++ Programming Guide,
"Hardware Multithreading" and "Multiprocessor Level" (which has loads take hundreds of cycles).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlsys_lab.kernels.ptx.code import Instruction
from mlsys_lab.kernels.ptx.flow import destinations, touched


@dataclass
class Turns:
    """What a run of the model did.

    Attributes:
        issued: per cycle the warp that issued and its instruction, or None.
        waiting: per cycle the warps that wait for a load.
    """

    issued: list[tuple[int, Instruction] | None] = field(default_factory=list)
    waiting: list[set[int]] = field(default_factory=list)

    @property
    def used(self) -> float:
        """Share of the cycles in which an instruction was issued."""
        return sum(slot is not None for slot in self.issued) / len(self.issued)


def take_turns(
    trace: Sequence[Instruction], warps: int, *, load_cycles: int, switching: bool = True
) -> Turns:
    """Let warps run the same instructions, each in order.

    Args:
        trace: what each warp runs.
        warps: how many.
        load_cycles: cycles from a load of global memory to the first that can use its result.
        switching: whether another warp may issue while one waits; else each runs to its end first.

    Returns:
        What each cycle did.
    """
    turns, place = Turns(), [0] * warps
    arrives: list[dict[str, int]] = [{} for _ in range(warps)]
    now = 0
    while any(p < len(trace) for p in place):
        cycle = len(turns.issued)
        alive = [w for w in range(warps) if place[w] < len(trace)]
        needs = {w: touched(trace[place[w]])[0] for w in alive}
        waiting = {w for w in alive if any(arrives[w].get(name, 0) > cycle for name in needs[w])}
        # The one that runs goes on while it can; then the next in turn.
        order = sorted(alive, key=lambda w: (w - now) % warps)
        ready = [w for w in (order if switching else order[:1]) if w not in waiting]
        turns.waiting.append(waiting)
        if not ready:
            turns.issued.append(None)
            continue
        now = ready[0]
        one = trace[place[now]]
        place[now] += 1
        late = load_cycles if is_global_load(one) else 1
        arrives[now] |= dict.fromkeys(destinations(one), cycle + late)
        turns.issued.append((now, one))
    return turns


def is_global_load(one: Instruction) -> bool:
    return one.op[0] == "ld" and not {"shared", "local", "param", "const"} & set(one.op)
