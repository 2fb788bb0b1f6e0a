"""The arguments of a launch: checked against the declaration, placed in the arena."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from mlsys_lab.kernels.cooperative import give_workspace
from mlsys_lab.kernels.ptx.code import Variable
from mlsys_lab.kernels.ptx.flow import names
from mlsys_lab.kernels.ptx.memory import Arena
from mlsys_lab.kernels.ptx.program import Program
from mlsys_lab.kernels.signature import SCALARS, Parameter


def placed(
    program: Program,
    declared: list[Parameter],
    given: tuple[Any, ...],
    kept: dict[str, np.ndarray] | None = None,
) -> tuple[Arena, bytes]:
    """Arguments in an arena, and the bytes of the parameters.

    Args:
        program: the kernel.
        declared: its parameters as the source names them, or nothing.
        given: arrays for pointers, numbers for values, bytes for structs.
        kept: the module's variables as the last launch left them, by name; filled, and changed by the launch.

    Raises:
        TypeError: a wrong number of arguments, or one that does not fit its parameter.
    """
    kernel, wanted = program.kernel, program.kernel.parameters
    if len(declared) != len(wanted):
        declared = [Parameter(f"argument {i}") for i in range(len(wanted))]
    if len(given) != len(wanted):
        listed = ", ".join(p.name for p in declared) or "none"
        raise TypeError(f"{kernel.name} takes {len(wanted)} arguments ({listed}), got {len(given)}")
    arena, data = Arena(), bytearray(program.parameter_bytes)
    for value, parameter, one in zip(given, wanted, declared, strict=True):
        at, size = program.parameters[parameter.name]
        if isinstance(value, np.ndarray):
            fitting(kernel.name, value, parameter, one)
            address = arena.add(one.name, value.nbytes, value.itemsize, array=value)
            struct.pack_into("<Q", data, at, address)
        elif isinstance(value, bytes):
            if len(value) != size:
                raise TypeError(f"{one.name} of {kernel.name} has {size} bytes, got {len(value)}")
            data[at : at + size] = value
        else:
            data[at : at + size] = number(kernel.name, value, parameter, one)
    used = set().union(*(names(o) for i in kernel.code for o in i.operands))
    for variable in program.module.variables.values():
        if variable.space in ("global", "const") and variable.name in used:
            initial = variable.initial.ljust(variable.size, b"\0")
            held = np.frombuffer(initial, np.uint8).copy()
            held = held if kept is None else kept.setdefault(variable.name, held)
            arena.symbols[variable.name] = arena.add(variable.name, variable.size, array=held)
    give_workspace(kernel, arena)
    arena.fill()
    return arena, bytes(data)


def fitting(kernel: str, value: np.ndarray, parameter: Variable, one: Parameter) -> None:
    """Refuse an array where a number belongs, of another dtype than a builtin scalar's, or read-only."""
    if parameter.kind not in ("u64", "b64", "s64") or (
        one.name and not one.pointed and "argument" not in one.name
    ):
        raise TypeError(
            f"{one.name} of {kernel} is a value of type {parameter.kind}, got an array: pass a number"
        )
    expected = SCALARS.get(one.pointed)
    if expected is not None and value.dtype != expected:
        name = np.dtype(expected).name
        what = f"{one.name} of {kernel} points at {one.pointed}"
        raise TypeError(f"{what}, got {value.dtype}: .astype({name!r})")
    if not value.flags.writeable and not one.constant:
        raise TypeError(f"{one.name} of {kernel} may be written, and the array is read-only: pass a copy")
    if not value.flags.c_contiguous:
        raise TypeError(f"{one.name} of {kernel} is not contiguous: pass np.ascontiguousarray(...)")


def number(kernel: str, value: Any, parameter: Variable, one: Parameter) -> bytes:
    """A number as the bytes of its parameter."""
    if one.pointed or not isinstance(value, int | float | np.number | np.bool_):
        wants = f"an array of {one.pointed}" if one.pointed else "a number"
        raise TypeError(f"{one.name} of {kernel} takes {wants}, got {type(value).__name__}")
    if parameter.kind in ("f32", "f64"):
        try:
            return struct.pack("<f" if parameter.kind == "f32" else "<d", float(value))
        except OverflowError:
            what = f"{one.name} of {kernel} is a float, which holds less than 3.5e38"
            raise TypeError(f"{what}, got {value}: declare it double") from None
    if isinstance(value, float | np.floating) and not float(value).is_integer():
        raise TypeError(f"{one.name} of {kernel} is an integer, got {value}")
    whole, bits = int(value), 8 * parameter.size
    least, most = limits(one.kind) or (-(1 << bits - 1), (1 << bits) - 1)
    if not least <= whole <= most:
        fits = [kind for kind in WIDER if (low := limits(kind)) and low[0] <= whole <= low[1]]
        fix = f"declare it {fits[0]}" if fits else "no integer type holds it"
        article = "an" if one.kind[:1] in ("i", "u") else "a"
        kind = f"{article} {one.kind}" if limits(one.kind) else f"{bits} bits"
        raise TypeError(f"{one.name} of {kernel} is {kind}, from {least} to {most}, got {value}: {fix}")
    return (whole & ((1 << bits) - 1)).to_bytes(parameter.size, "little")


#: What a parameter can be declared that is too narrow for its value, the narrowest first.
WIDER = ("int", "unsigned", "long long", "unsigned long long")


def limits(kind: str) -> tuple[int, int] | None:
    """The least and the largest value of an integer type of CUDA C++; None for others."""
    dtype = np.dtype(SCALARS.get(kind, np.void))
    return (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)) if dtype.kind in "iu" else None
