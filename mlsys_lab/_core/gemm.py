"""Matrix products, by a provider that can be chosen.

`numpy` is the one to read. `native` is the engine's own product in C, `torch` writes into our memory through
`torch.mm(out=)` and multiplies bfloat16 natively, `mkl` calls Intel's library (pip install mkl) through
ctypes. `auto` takes the first of native, mkl, torch, numpy that is there.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from mlsys_lab._core.backend import FLOATS, NARROW, Array, bfloat16

Product = Callable[[Array, Array], Array]


def by_numpy(a: Array, b: Array) -> Array:
    """a @ b by NumPy (or CuPy, which adds the narrow floats in float32 itself)."""
    if a.dtype in NARROW and isinstance(a, np.ndarray):
        return np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype)
    return np.matmul(a, b)


def torch_product() -> Product:
    """a @ b by torch on the same memory, with its own accumulation of the narrow floats in float32."""
    torch: Any = importlib.import_module("torch")

    def view(x: Array) -> Any:
        x = x if x.flags.writeable and min(x.strides, default=0) >= 0 else np.array(x)
        return (
            torch.from_numpy(x.view(np.uint16)).view(torch.bfloat16)
            if x.dtype == bfloat16
            else torch.from_numpy(x)
        )

    def by_torch(a: Array, b: Array) -> Array:
        if not isinstance(a, np.ndarray) or a.dtype not in FLOATS or a.dtype != b.dtype:
            return by_numpy(a, b)
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        out = np.empty((*batch, a.shape[-2], b.shape[-1]), dtype=a.dtype)
        (torch.mm if not batch else torch.matmul)(view(a), view(b), out=view(out))
        return out

    return by_torch


def mkl_library() -> ctypes.CDLL:
    """libmkl_rt of the PyPI package `mkl`, one thread, 32-bit integers."""
    files = importlib.metadata.files("mkl") or []
    path = next(str(f.locate()) for f in files if "mkl_rt" in f.name)
    library = ctypes.CDLL(path)
    library.MKL_Set_Interface_Layer(0)
    library.MKL_Set_Threading_Layer(1)
    return library


def mkl_product() -> Product:
    """a @ b by cblas_sgemm and cblas_dgemm; a stack of matrices goes one by one."""
    library = mkl_library()
    gemms = {
        np.dtype(np.float32): (library.cblas_sgemm, ctypes.c_float),
        np.dtype(np.float64): (library.cblas_dgemm, ctypes.c_double),
    }

    def laid_out(x: Array) -> tuple[Array, int, int]:
        """A matrix that BLAS can read: (matrix, 111 plain or 112 transposed, leading dimension)."""
        size = x.itemsize
        if x.strides[1] == size and x.strides[0] >= size * x.shape[1]:
            return x, 111, max(x.strides[0] // size, 1)
        if x.strides[0] == size and x.strides[1] >= size * x.shape[0]:
            return x, 112, max(x.strides[1] // size, 1)
        return np.ascontiguousarray(x), 111, max(x.shape[1], 1)

    def one(a: Array, b: Array, out: Array) -> None:
        function, real = gemms[a.dtype]
        (a, turn_a, lead_a), (b, turn_b, lead_b) = laid_out(a), laid_out(b)
        sizes = (out.shape[0], out.shape[1], a.shape[1])
        pointers = [ctypes.c_void_p(x.ctypes.data) for x in (a, b, out)]
        function(
            *(101, turn_a, turn_b, *sizes, real(1), pointers[0], lead_a),
            *(pointers[1], lead_b, real(0), pointers[2], max(out.shape[1], 1)),
        )

    def by_mkl(a: Array, b: Array) -> Array:
        if (
            not isinstance(a, np.ndarray)
            or a.dtype not in gemms
            or a.dtype != b.dtype
            or 0 in (a.size, b.size)
        ):
            return by_numpy(a, b)
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        out = np.empty((*batch, a.shape[-2], b.shape[-1]), dtype=a.dtype)
        if not batch:
            one(a, b, out)
            return out
        a, b = np.broadcast_to(a, (*batch, *a.shape[-2:])), np.broadcast_to(b, (*batch, *b.shape[-2:]))
        for place in np.ndindex(batch):
            one(a[place], b[place], out[place])
        return out

    return by_mkl


# Makers of products. The engine adds `native`, its own in C: upper floors register downward.
MAKERS: dict[str, Callable[[], Product]] = {
    "numpy": lambda: by_numpy,
    "torch": torch_product,
    "mkl": mkl_product,
}
REMEDY = {
    "native": "install a C compiler, or pip install ziglang",
    "torch": 'pip install "mlsys-lab-course[torch]"',
    "mkl": "pip install mkl",
}


@cache
def provider(name: str) -> Product:
    """The product of a provider, made once."""
    if name == "auto":
        for candidate in ("native", "mkl", "torch"):
            try:
                return provider(candidate)
            except ImportError:
                continue
        return by_numpy
    if name not in MAKERS:
        raise ValueError(
            f"gemm_provider expects one of {sorted(MAKERS)} or 'auto', got {name!r}: name one of them"
        )
    try:
        return MAKERS[name]()
    except (ImportError, OSError, StopIteration) as error:
        raise ImportError(f"the GEMM provider {name!r} does not work here: {REMEDY[name]}") from error


chosen: list[Product] = [by_numpy]


def gemm(a: Array, b: Array) -> Array:
    """Matrix product of two arrays (..., m, k) and (..., k, n) by the chosen provider."""
    return chosen[-1](a, b)


class gemm_provider:
    """Choose who multiplies matrices, from here on, or inside a `with`.

    Args:
        name: "numpy", "native", "torch", "mkl" or "auto".

    Raises:
        ValueError: an unknown provider.
        ImportError: a provider that is not installed; names the command that installs it.
    """

    def __init__(self, name: str) -> None:
        self.before = chosen[-1]
        chosen[-1] = provider(name)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: Any) -> None:
        chosen[-1] = self.before
