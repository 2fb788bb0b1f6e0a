"""The table of instructions that compute: opcode -> a function over arrays of all lanes.

A row gives the function for an opcode's modifiers, the types of its results and of its operands. Registers
are bits: the translator hands each operand over as an array (or one number, where all lanes agree) of the
type that the row asks for. Meaning: PTX ISA 9.0, chapter 9.7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from mlsys_lab.kernels.ptx.code import Instruction

#: NumPy's type for each PTX type; pairs of narrow floats stay bits.
DTYPES: dict[str, Any] = {
    **{f"s{bits}": np.dtype(f"int{bits}").type for bits in (8, 16, 32, 64)},
    **{f"{kind}{bits}": np.dtype(f"uint{bits}").type for kind in "ub" for bits in (8, 16, 32, 64)},
    "f16": np.float16, "f32": np.float32, "f64": np.float64, "tf32": np.float32, "bf16": ml_dtypes.bfloat16,
    "f16x2": np.uint32, "bf16x2": np.uint32, "pred": np.bool_,
}  # fmt: skip
Made = tuple[Callable[..., Any], list[str], list[str]]
ROWS: dict[str, Callable[[tuple[str, ...]], Made]] = {}


class NotSimulated(ValueError):
    """An instruction that this machine does not know; the message names it and the source line."""


def refused(one: Instruction, what: str = "") -> NotSimulated:
    """The error for an instruction, or for what of it is not known."""
    return NotSimulated(f"line {one.line}: {what or f'the instruction {one.name}'} is not simulated")


def row(*names: str) -> Callable[[Callable[[tuple[str, ...]], Made]], Callable[[tuple[str, ...]], Made]]:
    """Enter a row of the table: `make(op)` gives (function, types of results, types of operands)."""

    def enter(make: Callable[[tuple[str, ...]], Made]) -> Callable[[tuple[str, ...]], Made]:
        for name in names:
            ROWS[name] = make
        return make

    return enter


def made(one: Instruction) -> Made:
    """The function of an instruction and the types around it.

    Raises:
        NotSimulated: there is no such row.
    """
    try:
        return ROWS[one.op[0]](one.op)
    except (KeyError, IndexError, StopIteration):
        raise refused(one) from None
