"""A kernel that somebody wrote for an exercise: run it, and say in one line what is wrong with it.

What a launch survives (an access out of bounds, a race) is a failure here, told with the line of the source.
"""

from __future__ import annotations

import re
from typing import Any

from mlsys_lab.kernels.frontend import CompileError
from mlsys_lab.kernels.launch import CudaKernel
from mlsys_lab.kernels.report import Report

STEPS, SECONDS = 100_000, 5.0


def examined(source: Any, name: str, grid: Any, block: Any, *arguments: Any, races: bool = True) -> Report:
    """Run a kernel on the simulator; arrays are changed in place.

    Args:
        source: CUDA C++ with a kernel of that name; anything else fails.
        name: the kernel.
        grid, block, arguments: as for `CudaKernel`.
        races: do races fail it too?

    Returns:
        The report of a clean launch.

    Raises:
        NotImplementedError: the kernel's body is empty.
        AssertionError: what is wrong, in one line.
    """
    if not isinstance(source, str):
        raise AssertionError(
            f"the kernel's source is asked for, a text; got {type(source).__name__}: is there a return?"
        )
    if re.search(r"\)\s*\{\s*\}\s*$", re.sub(r"//[^\n]*|/\*.*?\*/", "", source, flags=re.DOTALL)):
        raise NotImplementedError("the kernel's body is empty")
    try:
        report = CudaKernel(source, name)[grid, block](*arguments, steps=STEPS, seconds=SECONDS)
    except CompileError as error:
        first = str(error).split("; line ")[0]  # what follows mostly follows from it
        raise AssertionError(f"it does not compile: {quoted(source, first)}") from None
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{name} cannot be launched: {error}") from None
    assert report is not None
    if report.errors:
        raise AssertionError(quoted(source, report.errors[0].message))
    inside = sorted(report.short_barriers & conditional_barriers(source))
    if inside:
        what = "only some threads of a block come to this __syncthreads() within an if: move it out"
        raise AssertionError(quoted(source, f"line {inside[0]}: {what}"))
    if races and report.races:
        raise AssertionError(quoted(source, report.races[0].message))
    return report


def conditional_barriers(source: str) -> set[int]:
    """Lines of `__syncthreads` that stand within the arms of an `if`.

    Machine code does not tell these from a return before the barrier, which is allowed; the text does.
    """
    found, opened, line, start = set[int](), list[bool](), 1, ""
    once = False  # an arm without braces, up to its semicolon
    text = re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), source, flags=re.DOTALL)
    for token in re.findall(r"\n|\w+|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)|.", text):
        arm = bool(start) and bool(token.strip()) and not (start == "if" and token[0] == "(")
        once |= arm and token not in ("if", "{")
        if token.startswith("__syncthreads") and (once or any(opened)):
            found.add(line)
        if token in ("if", "else"):
            start = token
        elif token == "{":
            opened.append(once or start in ("if", "else"))
            once, start = False, ""
        elif token == "}":
            opened[-1:] = []
        elif token == ";":
            once, start = False, ""
        line += token.count("\n")
    return found


def quoted(source: str, message: str) -> str:
    """A message that names lines, with what stands there."""
    lines = source.splitlines()
    found = re.search(r"\blines? (\d+)(?: and (\d+))?", message)
    numbers = [int(n) for n in (found.groups() if found else ()) if n]
    said = [f"`{lines[n - 1].strip()}`" for n in numbers if 0 < n <= len(lines)]
    return f"{message} ({', '.join(said)})" if said else message
