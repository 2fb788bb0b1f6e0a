"""Instructions by class, and their floating-point operations, as the report adds them up."""

from __future__ import annotations

import re

from mlsys_lab.kernels.ptx.code import space_of

COUNTED = ("add", "sub", "mul", "div", "min", "max")
FUNCTIONS = ("sqrt", "rcp", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh")
#: The class of an instruction by its first word; the rest is "float", or "integer and logic".
CLASSES = {
    **dict.fromkeys(("bra", "ret", "exit", "call"), "control"),
    **dict.fromkeys(("bar", "barrier", "membar", "fence"), "barrier"),
    **dict.fromkeys(("shfl", "vote", "match", "redux", "activemask"), "warp"),
    **dict.fromkeys(("mma", "wmma", "ldmatrix"), "tensor core"),
    **dict.fromkeys(("ld", "ldu", "cp"), "load"), "st": "store", "atom": "atomic", "red": "atomic",
    **dict.fromkeys(("mov", "cvt", "cvta", "selp", "prmt"), "move and convert"),
}  # fmt: skip


def flops_of(op: tuple[str, ...]) -> int:
    """Floating-point operations of one lane."""
    kind = op[-1]
    if not kind.startswith(("f", "bf")):
        return 0
    shape = re.search(r"\.m(\d+)n(\d+)k(\d+)\.", ".".join(op))
    if shape and "mma" in (op[0], op[1]):  # a warp's product, by 32 lanes
        return 2 * int(shape[1]) * int(shape[2]) * int(shape[3]) // 32
    pairs = 2 if kind.endswith("x2") else 1
    if op[0] in ("fma", "mad"):
        return 2 * pairs
    return pairs if op[0] in COUNTED + FUNCTIONS else 0


def class_of(op: tuple[str, ...]) -> str:
    """The class under which an instruction is counted."""
    found = CLASSES.get(op[0], "float" if flops_of(op) else "integer and logic")
    return f"{found} {space_of(op) or 'generic'}" if found in ("load", "store", "atomic") else found
