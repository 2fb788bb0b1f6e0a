"""Registers, shared memory, spills and occupancy of the library's kernels, from machine code made offline.

`python -m mlsys_lab.kernels.resources --gpu H100` prints the table.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass

from mlsys_lab.kernels.frontend import CompileError, NoFrontEnd, to_cubin
from mlsys_lab.kernels.launcher import ARCHITECTURES, DYNAMIC_SHARED, FOLDER, KERNELS


@dataclass(frozen=True)
class Multiprocessor:
    """What a multiprocessor has for the blocks that it holds.

    Warps and shared memory: the sections "Occupancy" and "Shared Memory" of NVIDIA's tuning guides for
    Ampere, Ada, Hopper and Blackwell. Blocks, and the units in which registers and shared memory are handed
    out: `cuda_occupancy.h` of the package nvidia-cuda-runtime 13.5, against which a test holds it all.

    Attributes:
        arch: for the compiler.
        warps, blocks: at most resident.
        shared_bytes: for all blocks; each takes `RESERVED_BYTES` more than it asks for.
    """

    arch: str
    warps: int
    blocks: int
    shared_bytes: int


#: By name; all have 65,536 registers per multiprocessor.
GPUS = {
    "A100": Multiprocessor("sm_80", 64, 32, 164 << 10),
    "A6000": Multiprocessor("sm_86", 48, 16, 100 << 10),
    "L4": Multiprocessor("sm_89", 48, 24, 100 << 10),
    "H100": Multiprocessor("sm_90", 64, 32, 228 << 10),
    "H200": Multiprocessor("sm_90", 64, 32, 228 << 10),
    "B200": Multiprocessor("sm_100", 64, 32, 228 << 10),
}
REGISTERS, REGISTER_UNIT, WARP_UNIT = 65_536, 256, 4
SHARED_UNIT, RESERVED_BYTES = 128, 1024


@dataclass(frozen=True)
class Resources:
    """What a kernel takes.

    Attributes:
        registers: of a thread.
        shared_bytes: of a block, as far as the source fixes it.
        spill_bytes: stores and loads of registers that did not fit.
        stack_bytes: local memory of a thread.
    """

    registers: int
    shared_bytes: int
    spill_bytes: int
    stack_bytes: int


def resources(source: str, arch: str) -> dict[str, Resources]:
    """Of each kernel of a source.

    Args:
        source: CUDA C++.
        arch: `sm_90`.

    Raises:
        CompileError, NoFrontEnd: as `to_cubin`.
    """
    log = to_cubin(source, arch)[1]
    found = {}
    for name, notes in re.findall(r"entry function '(\w+)'(.*?)(?=Compiling entry|\Z)", log, re.DOTALL):
        count = {
            what: sum(map(int, re.findall(rf"(\d+) (?:bytes )?{what}", notes)))
            for what in ("registers", "smem", "spill stores", "spill loads", "stack frame")
        }
        spilled = count["spill stores"] + count["spill loads"]
        found[name] = Resources(count["registers"], count["smem"], spilled, count["stack frame"])
    return found


def blocks_resident(gpu: Multiprocessor, threads: int, registers: int, shared_bytes: int) -> dict[str, int]:
    """Blocks that a multiprocessor holds at once, by each of its limits; the least of them is what holds.

    Args:
        gpu: one of GPUS.
        threads: of a block.
        registers: of a thread.
        shared_bytes: of a block, dynamic shared memory included.
    """
    warps = -(-threads // 32)
    per_warp = -(-registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    by_registers = REGISTERS // max(per_warp, 1) // WARP_UNIT * WARP_UNIT // warps
    taken = -(-(shared_bytes + RESERVED_BYTES) // SHARED_UNIT) * SHARED_UNIT
    return {
        "blocks": gpu.blocks,
        "warps": gpu.warps // warps,
        "registers": by_registers if registers else gpu.blocks,
        "shared": gpu.shared_bytes // taken,
    }


def occupancy(gpu: Multiprocessor, threads: int, registers: int, shared_bytes: int) -> float:
    """Resident warps, of those that fit."""
    blocks = min(blocks_resident(gpu, threads, registers, shared_bytes).values())
    return blocks * -(-threads // 32) / gpu.warps


def table(gpu: str) -> str:
    """The kernels of the library on a GPU, a line each.

    Raises:
        NoFrontEnd: no compiler is installed.
    """
    one = GPUS[gpu]
    head = ("kernel", "threads", "registers", "shared", "spills", "blocks/SM", "occupancy", "limited by")
    lines = [f"{gpu} ({one.arch})", "{:<22}{:>8}{:>10}{:>8}{:>8}{:>10}{:>10}  {}".format(*head)]
    for file, kernels in KERNELS.items():
        arch = ARCHITECTURES.get(file, one.arch)
        if arch not in (one.arch, f"{one.arch}a"):
            lines += [f"{name:<22} is for {arch} alone" for name in kernels]
            continue
        found = resources((FOLDER / f"{file}.cu").read_text(encoding="utf-8"), arch)
        for name, block in kernels.items():
            threads, has = block if isinstance(block, int) else block[0] * block[1], found[name]
            shared = has.shared_bytes + DYNAMIC_SHARED.get(name, 0)
            limits = blocks_resident(one, threads, has.registers, shared)
            least = min(limits.values())
            share = occupancy(one, threads, has.registers, shared)
            reason = "-" if share == 1 else " ".join(w for w, n in limits.items() if n == least)
            lines.append(
                f"{name:<22}{threads:>8}{has.registers:>10}{shared:>8}{has.spill_bytes:>8}"
                f"{least:>10}{share:>10.0%}  {reason}"
            )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 where a compiler is missing or refuses."""
    parser = argparse.ArgumentParser(prog="python -m mlsys_lab.kernels.resources", description=__doc__)
    parser.add_argument("--gpu", choices=GPUS, default="H100")
    try:
        print(table(parser.parse_args(arguments).gpu))
    except (CompileError, NoFrontEnd) as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
