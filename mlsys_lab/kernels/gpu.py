"""A launch on a real GPU through CuPy."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np

REMEDY = 'device="simulator" runs it without one'


def run_on_gpu(
    source: str,
    name: str,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    shared: int,
    arguments: tuple[Any, ...],
) -> None:
    """Compile with CuPy, copy arrays there and back.

    Raises:
        RuntimeError: CuPy is not installed, or it sees no GPU.
    """
    try:
        cupy: Any = importlib.import_module("cupy")
    except ImportError:
        raise RuntimeError(f"no GPU: CuPy is not installed; {REMEDY}") from None
    if not cupy.cuda.is_available():
        raise RuntimeError(f"no GPU: CuPy sees none; {REMEDY}")
    kernel = function_of(cupy, source, name)
    if shared > 48 << 10:
        kernel.max_dynamic_shared_size_bytes = shared
    there = [cupy.asarray(a) if isinstance(a, np.ndarray) else as_scalar(a) for a in arguments]
    kernel(grid, block, tuple(there), shared_mem=shared)
    for given, made in zip(arguments, there, strict=True):
        if isinstance(given, np.ndarray) and given.flags.writeable:
            given[...] = cupy.asnumpy(made)


@cache
def function_of(cupy: Any, source: str, name: str) -> Any:
    """A kernel, compiled once for the process."""
    return cupy.RawModule(code=source, options=("-std=c++17",)).get_function(name)


def as_scalar(value: Any) -> Any:
    """A Python number as CUDA's int or float; what lies on the GPU already stays as it is."""
    if isinstance(value, bool | np.generic | bytes) or hasattr(value, "__cuda_array_interface__"):
        return value
    return np.int32(value) if isinstance(value, int) else np.float32(value)
