"""CudaKernel: compile once, launch on the simulator or on a GPU, read the report."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from mlsys_lab.kernels.frontend import CompileError, to_ptx
from mlsys_lab.kernels.ptx.code import Module
from mlsys_lab.kernels.ptx.counts import Counts
from mlsys_lab.kernels.ptx.flow import names
from mlsys_lab.kernels.ptx.machine import Limits, Machine, Program, Stopped
from mlsys_lab.kernels.ptx.memory import Arena
from mlsys_lab.kernels.ptx.parser import parse
from mlsys_lab.kernels.ptx.races import Found, Race, Shadow
from mlsys_lab.kernels.report import Report

CHUNK = 1 << 16  # lanes that run together
MOST_THREADS = 1024
MOST_GRID = (2**31 - 1, 65_535, 65_535)


class CudaKernel:
    """A kernel of CUDA C++.

    Args:
        source: the text, or the path of a file.
        name: the kernel, declared `extern "C" __global__`; may be left out where there is one.

    Raises:
        CompileError: the source does not compile; the compiler's own line.
        ValueError: there is no kernel of that name.
        NotSimulated: it uses an instruction that the simulator does not know.
    """

    def __init__(self, source: str | Path, name: str = "", *, arch: str = "sm_80") -> None:
        self.source = Path(source).read_text(encoding="utf-8") if isinstance(source, Path) else source
        self.arch = arch
        self.module: Module = parse(to_ptx(self.source, arch))
        if not self.module.kernels:
            raise CompileError(
                'the source has no kernel: declare one as extern "C" __global__ void name(...)'
            )
        if not name and len(self.module.kernels) == 1:
            name = next(iter(self.module.kernels))
        if name not in self.module.kernels:
            raise ValueError(
                f"there is no kernel {name!r}; there are: {', '.join(sorted(self.module.kernels))}"
            )
        self.name = name
        self.program = Program(self.module, self.module.kernels[name])
        self.report: Report | None = None

    def __getitem__(self, shape: Any) -> Launch:
        grid, block, *shared = shape
        return Launch(self, triple(grid), triple(block), int(shared[0]) if shared else 0)


def triple(size: Any) -> tuple[int, int, int]:
    sizes = tuple(int(n) for n in (size if isinstance(size, tuple | list) else (size,)))
    x, y, z = (*sizes, 1, 1, 1)[:3]
    return x, y, z


class Launch:
    """A kernel with its grid: call it with the arguments."""

    def __init__(
        self, kernel: CudaKernel, grid: tuple[int, int, int], block: tuple[int, int, int], shared: int
    ) -> None:
        self.kernel, self.grid, self.block, self.shared = kernel, grid, block, shared
        threads = block[0] * block[1] * block[2]
        if min(block) < 1 or threads > MOST_THREADS or block[2] > 64:
            raise ValueError(
                f"a block has 1 to {MOST_THREADS} threads, at most 64 along z, got {block}: {threads}"
            )
        if min(grid) < 1 or any(n > most for n, most in zip(grid, MOST_GRID, strict=True)):
            raise ValueError(f"a grid has 1 to {MOST_GRID} blocks, got {grid}")

    def __call__(self, *arguments: Any, device: str = "simulator", steps: int = 2_000_000) -> Report:
        program = self.kernel.program
        arena, data = placed(program, arguments)
        counts = Counts()
        blocks = self.grid[0] * self.grid[1] * self.grid[2]
        threads = -(-(self.block[0] * self.block[1] * self.block[2]) // 32) * 32
        dynamic = (
            max(program.static_shared, *(program.shared.values() or [0]))
            if self.shared
            else program.static_shared
        )
        shared_bytes = dynamic + self.shared
        per = max(1, CHUNK // threads)
        sizes = [a.size for a in program.accesses.values() if a.space == "shared"]
        granule = min([4, *sizes])
        written = written_parameters(program)
        across, fine = None, program.finest
        if written and any(a.space in ("global", "") for a in program.accesses.values()):
            across = Shadow(-(-len(arena.data) // fine), threads, across=not has_fence(program))
        stopped, found = "", []
        with np.errstate(all="ignore"):
            for first in range(0, blocks, per):
                machine = Machine(
                    self.grid, self.block, first, min(per, blocks - first), arena, shared_bytes,
                    program.local_bytes, counts, program.parameters, data,
                )  # fmt: skip
                if shared_bytes:
                    machine.granule = granule
                    machine.shadow_shared = Shadow(-(-len(machine.shared) // granule), threads, across=False)
                machine.shadow_global, machine.fine = across, fine
                for name, at in program.shared.items():
                    machine.values[name] = np.uint64(at)
                for name, at in program.local.items():
                    machine.values[name] = np.uint64(at)
                for name, address in arena.symbols.items():
                    machine.values[name] = np.uint64(address)
                machine.start(program, Limits(steps))
                try:
                    machine.run()
                except Stopped as reason:
                    counts.error(reason.kind, reason.line, reason.message)
                    stopped = reason.message
                if machine.shadow_shared is not None:
                    found += [raced(machine, "shared", f, granule) for f in machine.shadow_shared.found]
                if stopped:
                    break
            if across is not None:
                found += [raced(machine, "global", f, fine) for f in across.found]
        arena.copy_back()
        unique = {(r.space, r.lines, r.kind): r for r in reversed(found)}
        self.kernel.report = Report(program, counts, list(unique.values())[::-1], stopped)
        return self.kernel.report


def has_fence(program: Program) -> bool:
    return any(i.op[0] in ("membar", "fence") for i in program.kernel.code)


def written_parameters(program: Program) -> bool:
    """Whether the kernel writes to global memory at all."""
    return any((a.store or a.atomic) and a.space in ("global", "") for a in program.accesses.values())


def raced(machine: Machine, space: str, found: Found, granule: int) -> Race:
    threads = [t - machine.first * machine.threads for t in found.threads]
    named = [machine.thread_of(t) for t in threads]
    blocks = [machine.block_of(t) for t in threads]
    byte = found.granule * granule
    address = byte % machine.stride if space == "shared" else byte
    what = f"byte {address} of shared memory" if space == "shared" else machine.arena.described(byte)
    message = (
        f"{found.kind} race on {what}: thread {named[0]} of block {blocks[0]} in line {found.lines[0]}, "
        f"thread {named[1]} of block {blocks[1]} in line {found.lines[1]}, and nothing orders them"
    )
    return Race(
        space, address, found.lines, (named[0], named[1]), (blocks[0], blocks[1]), found.kind, message
    )


def placed(program: Program, arguments: tuple[Any, ...]) -> tuple[Arena, bytes]:
    """Arguments in an arena, and the bytes of the parameters.

    Raises:
        TypeError: a wrong number of arguments, or one that does not fit its parameter.
    """
    parameters = program.kernel.parameters
    if len(arguments) != len(parameters):
        raise TypeError(f"{program.kernel.name} takes {len(parameters)} arguments, got {len(arguments)}")
    arena = Arena()
    data = bytearray(program.parameter_bytes)
    for i, (value, parameter) in enumerate(zip(arguments, parameters, strict=True)):
        at, size = program.parameters[parameter.name]
        if isinstance(value, np.ndarray):
            if size != 8:
                raise TypeError(f"argument {i} of {program.kernel.name} is {parameter.kind}, got an array")
            address = arena.add(f"argument {i}", value.nbytes, value.itemsize, array=value)
            struct.pack_into("<Q", data, at, address)
        elif isinstance(value, bytes):
            data[at : at + size] = value[:size]
        else:
            kind = parameter.kind
            code = {"f32": "f", "f64": "d"}.get(kind) or {1: "b", 2: "h", 4: "i", 8: "q"}[size]
            if code in "fd":
                struct.pack_into(f"<{code}", data, at, float(value))
            else:
                struct.pack_into(f"<{code.upper()}", data, at, int(value) & ((1 << 8 * size) - 1))
    used = (
        set().union(*(names(o) for i in program.kernel.code for o in i.operands))
        if program.kernel.code
        else set()
    )
    for variable in program.module.variables.values():
        if variable.space in ("global", "const") and variable.name in used:
            initial = variable.initial.ljust(variable.size, b"\0")
            arena.symbols[variable.name] = arena.add(variable.name, variable.size, initial=initial)
    arena.fill()
    return arena, bytes(data)
