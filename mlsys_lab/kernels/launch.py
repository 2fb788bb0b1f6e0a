"""CudaKernel: compile once, launch on the simulator or on a GPU, read the report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from mlsys_lab.kernels.arguments import placed
from mlsys_lab.kernels.budget import SECONDS, STEPS, Budget
from mlsys_lab.kernels.calls import with_functions
from mlsys_lab.kernels.cooperative import check_grid, is_cooperative
from mlsys_lab.kernels.frontend import CompileError, to_ptx
from mlsys_lab.kernels.gpu import run_on_gpu
from mlsys_lab.kernels.ptx.code import Module
from mlsys_lab.kernels.ptx.parser import parse
from mlsys_lab.kernels.ptx.program import Program
from mlsys_lab.kernels.ptx.table import NotSimulated
from mlsys_lab.kernels.refusals import check_architecture, check_clocks, check_name, check_text, told
from mlsys_lab.kernels.report import Report
from mlsys_lab.kernels.rewriting import rewritten
from mlsys_lab.kernels.signature import parameters
from mlsys_lab.kernels.simulate import simulate

MOST_THREADS = 1024
MOST_GRID = (2**31 - 1, 65_535, 65_535)
#: KiB of shared memory that a block may have (CUDA C++ Programming Guide, table "Technical Specifications").
SHARED_KIB = {"sm_70": 96, "sm_75": 64, "sm_80": 163, "sm_86": 99, "sm_89": 99, "sm_90": 227, "sm_100": 227}
MOST_STATIC = 48 << 10  # bytes that the source itself may fix, everywhere: the same table


class CudaKernel:
    """A kernel of CUDA C++: `CudaKernel(source, name)[grid, block](*arguments)`.

    Args:
        source: the text, or the path of a file.
        name: the kernel, declared `extern "C" __global__`; may be left out where there is one.
        arch: the architecture that it is compiled for, and whose limits hold.

    Attributes:
        report: of the last launch on the simulator.
        variables: bytes of the module's variables, which keep their values from launch to launch.

    Raises:
        TypeError: the source is neither.
        CompileError: the source does not compile; the compiler's own line.
        ValueError: there is no kernel of that name, or no such architecture; lists those that there are.
        NotSimulated: it uses an instruction that the simulator does not know; names it and its line. For an
            architecture of an "a" (sm_90a), whose own instructions want a GPU, at a launch on the simulator.
    """

    def __init__(self, source: str | Path, name: str = "", *, arch: str = "sm_80") -> None:
        if not isinstance(source, str | Path):
            got = type(source).__name__
            raise TypeError(f"the source is CUDA C++ as text, or the path of a file, got {got}")
        check_architecture(arch)
        if isinstance(source, str):
            check_text(source)
        self.source = Path(source).read_text(encoding="utf-8") if isinstance(source, Path) else source
        self.arch = arch
        self.module: Module = parse(to_ptx(self.source, arch))
        there = sorted(self.module.kernels)
        if not there:
            raise CompileError('the source has no kernel: declare one, extern "C" __global__ void name(...)')
        if not name and len(there) == 1:
            name = there[0]
        if name not in there:
            check_name(name, there)
        self.name = name
        self.refused: NotSimulated | None = None
        try:
            self.module.kernels[name] = rewritten(with_functions(self.module, self.module.kernels[name]))
            check_clocks(self.module.kernels[name])
            self._program = Program(self.module, self.module.kernels[name])
        except NotSimulated as reason:
            self.refused = told(self.module.kernels[name], reason, arch)
            if not arch.endswith("a"):
                raise self.refused from None
        self.parameters = parameters(self.source, name)
        self.report: Report | None = None
        self.variables: dict[str, np.ndarray] = {}

    @property
    def program(self) -> Program:
        """The kernel as the simulator runs it."""
        if self.refused is not None:
            raise self.refused
        return self._program

    def __getitem__(self, shape: Any) -> Launch:
        """`kernel[grid, block]` or `kernel[grid, block, dynamic_shared_bytes]`."""
        if not isinstance(shape, tuple) or len(shape) not in (2, 3):
            raise ValueError("a launch is kernel[grid, block] or kernel[grid, block, shared_bytes]")
        grid, block, *shared = shape
        if shared and not isinstance(shared[0], int | np.integer):
            raise TypeError(f"shared_bytes is a whole number, got {shared[0]!r}")
        return Launch(self, triple(grid), triple(block), int(shared[0]) if shared else 0)


def triple(size: Any) -> tuple[int, int, int]:
    """Sizes along x, y, z; what is left out is 1.

    Raises:
        ValueError: more than three sizes.
        TypeError: one that is no whole number.
    """
    given = size if isinstance(size, tuple | list) else (size,)
    for n in given:
        if not isinstance(n, int | np.integer):
            raise TypeError(f"a grid or block has whole sizes, got {n!r}: write n // 256 or (n + 255) // 256")
    sizes = tuple(int(n) for n in given)
    if not 1 <= len(sizes) <= 3:
        raise ValueError(f"a grid or block has 1 to 3 sizes, got {sizes}")
    x, y, z = (*sizes, 1, 1)[:3]
    return x, y, z


class Launch:
    """A kernel with its grid: call it with the arguments."""

    def __init__(
        self, kernel: CudaKernel, grid: tuple[int, int, int], block: tuple[int, int, int], shared: int
    ) -> None:
        self.kernel, self.grid, self.block, self.shared = kernel, grid, block, shared
        threads = block[0] * block[1] * block[2]
        if min(block) < 1 or threads > MOST_THREADS or block[2] > 64:
            raise ValueError(f"a block has 1 to {MOST_THREADS} threads, at most 64 along z, got {block}")
        if min(grid) < 1 or any(n > most for n, most in zip(grid, MOST_GRID, strict=True)):
            raise ValueError(f"a grid has 1 to {MOST_GRID} blocks along x, y, z, got {grid}")
        most = SHARED_KIB.get(kernel.arch.rstrip("a"), 99) << 10
        fixed = 0 if kernel.refused else kernel.program.static_shared
        if fixed > MOST_STATIC:
            raise ValueError(
                f"{kernel.name} has {fixed} bytes of static shared memory, at most {MOST_STATIC} are "
                "allowed: make it dynamic, extern __shared__ float s[], and launch kernel[grid, block, bytes]"
            )
        asked = shared if kernel.refused else kernel.program.shared_bytes(shared)
        if shared < 0 or asked > most:
            raise ValueError(
                f"a block of {kernel.arch} has at most {most} bytes of shared memory, got {asked}"
            )
        if not kernel.refused and is_cooperative(kernel.program.kernel):
            check_grid(kernel.source, kernel.name, kernel.arch, math.prod(grid), threads, asked)

    def __call__(
        self, *arguments: Any, device: str = "simulator", steps: int = STEPS, seconds: float = SECONDS
    ) -> Report | None:
        """Run it; arrays are changed in place.

        Args:
            arguments: NumPy arrays for pointers, numbers for values, bytes for structs.
            device: "simulator", or "gpu" through CuPy.
            steps: basic blocks of code after which the simulator gives up.
            seconds: of CPU time, likewise.

        Returns:
            The report; None from a GPU.

        Raises:
            TypeError: arguments that do not fit.
            ValueError: no such device; steps or seconds that are not above 0.
            RuntimeError: there is no GPU.
        """
        if device == "gpu":
            one = self.kernel
            run_on_gpu(one.source, one.name, one.arch, self.grid, self.block, self.shared, arguments)
            return None
        if device != "simulator":
            raise ValueError(f"device is 'simulator' or 'gpu', got {device!r}")
        program = self.kernel.program
        kept = self.kernel.variables
        arena, data = placed(program, self.kernel.parameters, arguments, kept)
        report = simulate(program, self.grid, self.block, self.shared, arena, data, Budget(steps, seconds))
        report.source, self.kernel.report = self.kernel.source, report
        report.launch = f"{self.kernel.name}, grid {self.grid}, block {self.block}"
        report.launch += f", {self.shared:,} bytes of dynamic shared memory" if self.shared else ""
        return report
