"""What a PTX text is made of: instructions, operands, variables, kernels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Bytes of each PTX type.
BYTES = {
    **dict.fromkeys(("s8", "u8", "b8"), 1),
    **dict.fromkeys(("s16", "u16", "b16", "f16", "bf16"), 2),
    **dict.fromkeys(("s32", "u32", "b32", "f32", "f16x2", "bf16x2", "tf32"), 4),
    **dict.fromkeys(("s64", "u64", "b64", "f64"), 8),
    "b128": 16,
    "pred": 1,
}


@dataclass(frozen=True)
class Register:
    """A register by its name in its scope; `negated` for a predicate after an exclamation mark."""

    name: str
    negated: bool = False


@dataclass(frozen=True)
class Immediate:
    """A constant: an int, or a float given by its bits (`real` is "f32" or "f64")."""

    value: int
    real: str = ""


@dataclass(frozen=True)
class Symbol:
    """A name that is no register: a variable, a parameter, a label, a function, a special register."""

    name: str


@dataclass(frozen=True)
class Address:
    """`[base + offset]`."""

    base: Register | Symbol | Immediate
    offset: int = 0


@dataclass(frozen=True)
class Vector:
    """`{a, b, c, d}`, or a pair `a|b`."""

    parts: tuple[Any, ...]


Operand = Register | Immediate | Symbol | Address | Vector


@dataclass
class Instruction:
    """One instruction: its opcode in parts, its operands, the predicate that guards it, its source line."""

    op: tuple[str, ...]
    operands: list[Any]
    guard: Register | None = None
    line: int = 0

    @property
    def name(self) -> str:
        return ".".join(self.op)


@dataclass
class Variable:
    """A variable in some state space: `size` bytes at a multiple of `align`; -1: `extern` shared memory."""

    name: str
    space: str
    size: int
    align: int
    initial: bytes = b""
    kind: str = "b8"


@dataclass
class Kernel:
    """An entry or a function: parameters, registers (name -> type), variables, instructions and labels."""

    name: str
    parameters: list[Variable] = field(default_factory=list)
    registers: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    results: list[Variable] = field(default_factory=list)


@dataclass
class Module:
    """What a PTX text holds: kernels, functions that have a body, and variables of the module."""

    kernels: dict[str, Kernel] = field(default_factory=dict)
    functions: dict[str, Kernel] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)


@dataclass(frozen=True)
class Access:
    """What a memory instruction does: its place in the code, space, type, width and line."""

    index: int
    space: str  # "" is generic
    kind: str
    lanes: int  # of a vector
    line: int
    store: bool = False
    atomic: str = ""
    strong: int = 0  # 1: between warps of a block (volatile in shared memory), 2: within a block, 3: with all
    acquires: bool = False
    releases: bool = False

    @property
    def size(self) -> int:
        return BYTES[self.kind] * self.lanes


SPACES = ("global", "shared", "local", "const", "param")


def parts(operand: Any) -> tuple[Any, ...]:
    """The operands within one: of a vector its parts, else itself."""
    return operand.parts if isinstance(operand, Vector) else (operand,)


def space_of(op: tuple[str, ...]) -> str:
    """The state space that an opcode names; "" is generic."""
    return next((p for p in (part.split("::")[0] for part in op) if p in SPACES), "")
