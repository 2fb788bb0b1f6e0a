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

#: NumPy's type for each PTX type; pairs of narrow floats stay bits.
DTYPES: dict[str, Any] = {
    "s8": np.int8,
    "u8": np.uint8,
    "b8": np.uint8,
    "s16": np.int16,
    "u16": np.uint16,
    "b16": np.uint16,
    "s32": np.int32,
    "u32": np.uint32,
    "b32": np.uint32,
    "f32": np.float32,
    "f64": np.float64,
    "s64": np.int64,
    "u64": np.uint64,
    "b64": np.uint64,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f16x2": np.uint32,
    "bf16x2": np.uint32,
    "tf32": np.float32,
    "pred": np.bool_,
}
Made = tuple[Callable[..., Any], list[str], list[str]]
ROWS: dict[str, Callable[[tuple[str, ...]], Made]] = {}


class NotSimulated(ValueError):
    """An instruction that this machine does not know; the message names it and the source line."""


def row(*names: str) -> Callable[[Callable[[tuple[str, ...]], Made]], Callable[[tuple[str, ...]], Made]]:
    """Enter a row of the table: `make(op)` gives (function, types of results, types of operands)."""

    def enter(make: Callable[[tuple[str, ...]], Made]) -> Callable[[tuple[str, ...]], Made]:
        for name in names:
            ROWS[name] = make
        return make

    return enter


def made(op: tuple[str, ...], line: int) -> Made:
    """The function of an opcode and the types around it.

    Raises:
        NotSimulated: there is no such row.
    """
    if op[0] not in ROWS:
        raise NotSimulated(f"line {line}: the instruction {'.'.join(op)} is not simulated")
    try:
        return ROWS[op[0]](op)
    except (KeyError, IndexError, StopIteration):
        raise NotSimulated(f"line {line}: the instruction {'.'.join(op)} is not simulated") from None
