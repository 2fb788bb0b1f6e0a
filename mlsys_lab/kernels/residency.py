"""What a kernel takes of a multiprocessor, from machine code made offline, and how many blocks fit there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlsys_lab.kernels.frontend import to_cubin


@dataclass(frozen=True)
class Multiprocessor:
    """What a multiprocessor has for the blocks that it holds.

    Warps and shared memory: the sections "Occupancy" and "Shared Memory" of NVIDIA's tuning guides for
    Ampere, Ada, Hopper and Blackwell. Blocks, and the units in which registers and shared memory are handed
    out: `cuda_occupancy.h` of the package nvidia-cuda-runtime 13.5, against which a test holds it all. The
    count: NVIDIA's data sheets (A100 2020, RTX A6000 2020, L4 2023, H100 SXM 2022, H200 2023, B200 2024).

    Attributes:
        arch: for the compiler.
        warps, blocks: at most resident.
        shared_bytes: for all blocks; each takes `RESERVED_BYTES` more than it asks for.
        count: of them on the GPU.
    """

    arch: str
    warps: int
    blocks: int
    shared_bytes: int
    count: int


#: By name; all have 65,536 registers per multiprocessor.
GPUS = {
    "A100": Multiprocessor("sm_80", 64, 32, 164 << 10, 108),
    "A6000": Multiprocessor("sm_86", 48, 16, 100 << 10, 84),
    "L4": Multiprocessor("sm_89", 48, 24, 100 << 10, 58),
    "H100": Multiprocessor("sm_90", 64, 32, 228 << 10, 132),
    "H200": Multiprocessor("sm_90", 64, 32, 228 << 10, 132),
    "B200": Multiprocessor("sm_100", 64, 32, 228 << 10, 148),
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
