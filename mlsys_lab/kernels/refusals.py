"""What of a source is refused before it runs, each with the way out.

A path for a text, an architecture that the compiler does not know, a name that C++ has changed, instructions
of one architecture alone, and clocks: the simulator has no time.
"""

from __future__ import annotations

import re

from mlsys_lab.kernels.frontend import architectures
from mlsys_lab.kernels.ptx.code import Kernel
from mlsys_lab.kernels.ptx.flow import names
from mlsys_lab.kernels.ptx.table import NotSimulated, refused
from mlsys_lab.kernels.residency import GPUS

#: Instructions that one architecture alone has, by their first word.
OWN = {"wgmma": "sm_90a", "setmaxnreg": "sm_90a", "tcgen05": "sm_100a"}
CLOCKS = {"%clock", "%clock_hi", "%clock64", "%globaltimer", "%globaltimer_lo", "%globaltimer_hi"}


def needed(source: str, arch: str) -> str:
    """What a source is to be compiled for: the architecture asked for, or the one that it is bound to."""
    code = re.sub(r"//[^\n]*|/\*.*?\*/", "", source, flags=re.DOTALL)
    own = next((a for word, a in OWN.items() if re.search(rf"\b{word}\b", code)), arch)
    return own if own == f"{arch}a" or arch == "sm_80" else arch


def check_text(source: str) -> None:
    """Refuse a path that is given as the text of a source.

    Raises:
        ValueError: says how to pass one.
    """
    if not re.search(r"[\n{};]", source) and re.search(r"\.(cuh?|c|h|cc|cpp|hpp)\s*$", source):
        text = f"{source!r} is taken for the text of a source, and looks like the path of a file"
        raise ValueError(f"{text}: pass pathlib.Path({source!r})")


def check_architecture(arch: str) -> None:
    """Refuse what is no architecture.

    Raises:
        ValueError: lists those that there are.
    """
    there = architectures()
    if not isinstance(arch, str) or re.sub(r"(?<=\d)[af]$", "", arch) not in there:
        is_gpu = f" ({arch} is {GPUS[arch].arch})" if arch in GPUS else ""
        raise ValueError(f"there is no architecture {arch!r}{is_gpu}; there are: {', '.join(there)}")


def check_name(name: str, there: list[str]) -> None:
    """Refuse a name that no kernel has.

    Raises:
        ValueError: lists the names, or says how the kernel keeps its own.
    """
    listed = ", ".join(there)
    if not name:
        raise ValueError(f"the source has several kernels, name one; there are: {listed}")
    if any(one.startswith(f"_Z{len(name)}{name}") for one in there):
        raise ValueError(
            f"there is no kernel {name!r} under that name, C++ calls it {listed}: "
            f'declare it extern "C" __global__ void {name}(...)'
        )
    if name not in there:
        raise ValueError(f"there is no kernel {name!r}; there are: {listed}")


def check_clocks(kernel: Kernel) -> None:
    """Refuse a kernel that asks for the time.

    Raises:
        NotSimulated: names its line.
    """
    for one in kernel.code:
        if set().union(*(names(o) for o in one.operands)) & CLOCKS:
            way_out = "the report counts instructions, sectors and wavefronts, and time wants a GPU"
            raise NotSimulated(f"line {one.line}: clock() and clock64() are not simulated: {way_out}")


def told(kernel: Kernel, reason: NotSimulated, arch: str) -> NotSimulated:
    """The refusal of a kernel that has instructions of one architecture alone: it names the first of them."""
    own = next((one for one in kernel.code if one.op[0] in OWN), None)
    runs = OWN[own.op[0]] if own is not None else arch if arch.endswith("a") else ""
    first = refused(own) if own is not None else reason
    return NotSimulated(f"{first}; a GPU of {runs} runs it") if runs else reason
