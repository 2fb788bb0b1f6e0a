"""A launch on a real GPU through CuPy."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mlsys_lab.kernels.frontend import nvrtc, to_cubin, to_ptx
from mlsys_lab.kernels.tensor_map import Tiles, encoded

Triple = tuple[int, int, int]
REMEDY = 'device="simulator" runs it without one'


def cupy_with_gpu() -> Any:
    """CuPy, where it sees a GPU.

    Raises:
        RuntimeError: CuPy is not installed, or it sees no GPU.
    """
    try:
        cupy: Any = importlib.import_module("cupy")
    except ImportError:
        raise RuntimeError(f"no GPU: CuPy is not installed; {REMEDY}") from None
    if not cupy.cuda.is_available():
        raise RuntimeError(f"no GPU: CuPy sees none; {REMEDY}")
    return cupy


def run_on_gpu(
    source: str, name: str, arch: str, grid: Triple, block: Triple, shared: int, arguments: tuple[Any, ...]
) -> None:
    """Compile for the GPU that is there, copy arrays there and back.

    Raises:
        RuntimeError: CuPy is not installed, it sees no GPU, or the kernel is for another one.
    """
    cupy = cupy_with_gpu()
    launch, lying = bound(cupy, source, name, arch, grid, block, shared, arguments)
    launch()
    for given, made in zip(arguments, lying, strict=True):
        if isinstance(given, np.ndarray) and given.flags.writeable:
            given[...] = cupy.asnumpy(made)


def bound(
    cupy: Any, source: str, name: str, arch: str, grid: Triple, block: Triple, shared: int,
    arguments: tuple[Any, ...],
) -> tuple[Callable[[], None], list[Any]]:  # fmt: skip
    """A launch that can be repeated, and its arguments as they lie on the GPU.

    Raises:
        RuntimeError: the kernel is for another GPU.
    """
    kernel = function_of(cupy, source, name, arch)
    if shared > 48 << 10:
        kernel.max_dynamic_shared_size_bytes = shared
    lying = [a.matrix if isinstance(a, Tiles) else a for a in arguments]
    lying = [cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in lying]
    there = tuple(as_argument(given, at) for given, at in zip(arguments, lying, strict=True))
    held = there, lying  # a tensor map has the address of its matrix, and does not keep it

    def launch() -> None:
        kernel(grid, block, held[0], shared_mem=shared)

    return launch, lying


@cache
def function_of(cupy: Any, source: str, name: str, arch: str) -> Any:
    """A kernel, compiled once for the process.

    By our front end where NVIDIA's compiler has its wheel, with that wheel's headers; else by CuPy, which
    cannot be asked for what one architecture alone has: then the driver takes our PTX.
    """
    whole = {"enable_cooperative_groups": True} if "this_grid" in source else {}  # launched all at once
    here, own = f"sm_{cupy.cuda.Device().compute_capability}", arch.endswith("a")
    if own and arch != f"{here}a":
        raise RuntimeError(f"{name} is for {arch} alone, and this GPU is {here}")
    if nvrtc() is None and not own:
        return cupy.RawModule(code=source, options=("-std=c++17",), **whole).get_function(name)
    if nvrtc() is not None:
        ending, data = "cubin", to_cubin(source, arch if own else here)[0]
    else:
        ending, data = "ptx", to_ptx(source, arch).encode()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / f"kernel.{ending}"
        place.write_bytes(data)
        kernel = cupy.RawModule(path=str(place), **whole).get_function(name)
        kernel.compile()  # reads the file
    return kernel


def as_argument(given: Any, lying: Any) -> Any:
    """An argument as CuPy hands it over.

    Args:
        given: by the caller.
        lying: the array on the GPU, or what was given.

    Returns:
        An array of the GPU, CUDA's int or float for a Python number, or a struct: an array of one element.
    """
    if isinstance(given, Tiles):
        given = encoded(given, lying.data.ptr)
    if isinstance(given, bytes):
        return np.frombuffer(given, f"V{len(given)}")
    if isinstance(given, bool | np.generic) or hasattr(lying, "__cuda_array_interface__"):
        return lying
    return np.int32(given) if isinstance(given, int) else np.float32(given)
