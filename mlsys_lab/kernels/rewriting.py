"""Instructions that do two things, written as those that the machine has: sums with carry, votes of a block.

A carry becomes a predicate that one instruction writes and the next reads. A barrier that votes becomes three
steps: each thread tells what it has, waits at an ordinary barrier, and hears what all said; the report counts
the barrier alone. PTX ISA 9.0, 9.7.2 and 9.7.13.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.code import Immediate, Instruction, Kernel, Register, Vector
from mlsys_lab.kernels.ptx.instructions import high
from mlsys_lab.kernels.ptx.table import DTYPES, Made, refused, row

CARRY = "%carry"
CARRIED = {"add": "addc", "sub": "subc", "mad": "madc"}  # as they are called once the carry is an operand


def rewritten(kernel: Kernel) -> Kernel:
    """The kernel with its carries and votes of blocks in other words.

    Raises:
        NotSimulated: a barrier that votes stands under a predicate.
    """
    made = replace(kernel, registers={**kernel.registers, CARRY: "pred"}, code=[])
    at = []
    for one in kernel.code:
        at.append(len(made.code))
        if one.op[0] in CARRIED.values() or (one.op[0] in CARRIED and "cc" in one.op):
            made.code.append(with_carry(one))
        elif one.op[0] in ("bar", "barrier") and one.op[1] == "red":
            made.code += vote(one)
        else:
            made.code.append(one)
    at.append(len(made.code))
    made.labels = {name: at[place] for name, place in kernel.labels.items()}
    return made


def with_carry(one: Instruction) -> Instruction:
    """The carry as a second result and a last operand."""
    out = Register(CARRY if "cc" in one.op else "_")
    into = Register(CARRY) if one.op[0] in CARRIED.values() else Immediate(0)
    op = (CARRIED.get(one.op[0], one.op[0]), *(p for p in one.op[1:] if p != "cc"))
    return replace(one, op=op, operands=[Vector((one.operands[0], out)), *one.operands[1:], into])


def vote(one: Instruction) -> list[Instruction]:
    """`bar.red.popc.u32 d, a, p` and its kind."""
    way = next((p for p in one.op if p in ("popc", "and", "or")), "")
    if one.guard is not None or not way:
        raise refused(one)
    result, *barrier, holds = one.operands
    tell = Instruction(("_tell",), [barrier[0], holds], None, one.line)
    hear = Instruction(
        ("_hear", way, "u32" if way == "popc" else "pred"), [result, barrier[0]], None, one.line
    )
    return [tell, Instruction(("bar", "sync"), barrier, None, one.line), hear]


@row(*CARRIED.values())
def carried(op: tuple[str, ...]) -> Made:
    """Sum, difference or product and sum of integers, and whether it went over."""
    kind = "u" + op[-1][1:]
    times = high(DTYPES[op[-1]]) if "hi" in op else np.multiply

    def add(a: Any, b: Any, carry: Any) -> tuple[Any, Any]:
        some = a + b
        whole = some + carry
        return whole, (some < a) | (whole < some)

    def subtract(a: Any, b: Any, carry: Any) -> tuple[Any, Any]:
        some = a - b
        return some - carry, (a < b) | (some < carry)

    def multiply_add(a: Any, b: Any, c: Any, carry: Any) -> tuple[Any, Any]:
        signed = DTYPES[op[-1]]
        return add(np.asarray(times(a.view(signed), b.view(signed))).view(DTYPES[kind]), c, carry)

    function: Any = {"addc": add, "subc": subtract, "madc": multiply_add}[op[0]]
    width = DTYPES[kind]
    numbers = 3 if op[0] == "madc" else 2
    with_number = lambda *v: function(*v[:-1], v[-1].astype(width))  # noqa: E731
    return with_number, [kind, "pred"], [kind] * numbers + ["pred"]
