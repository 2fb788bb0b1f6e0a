"""NumPy or CuPy: one array namespace.

NumPy's own functions hand an array of CuPy on to CuPy (NEP 13 and NEP 18), so most code calls `np` for
both; what makes an array from nothing, and what the two spell differently, is here. CuPy is imported only
when it is asked for.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from typing import Any

import ml_dtypes
import numpy as np

Array = Any  # a numpy.ndarray or a cupy.ndarray
bfloat16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = (np.dtype(np.float16), bfloat16, np.dtype(np.float32), np.dtype(np.float64))
NARROW = (np.dtype(np.float16), bfloat16)


def namespace(array: Any) -> Any:
    """The module whose arrays `array` is one of: numpy, or cupy."""
    root = type(array).__module__.partition(".")[0]
    return importlib.import_module(root) if root == "cupy" else np


def module(device: str) -> Any:
    """The array module of a device.

    Args:
        device: "cpu" or "cuda".

    Raises:
        ValueError: an unknown device.
        ImportError: "cuda" where CuPy is not installed.
    """
    if device == "cpu":
        return np
    if device != "cuda":
        raise ValueError(f'expected device "cpu" or "cuda", got {device!r}: name one of the two')
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise ImportError('device="cuda" needs CuPy: pip install "mlsys-lab-course[gpu]"') from error


def asarray(data: Any, dtype: Any = None, device: str | None = None) -> Array:
    """An array of NumPy or CuPy from anything, floats of Python in float32.

    Args:
        data: an array, a number, or nested lists of numbers.
        dtype: what the array shall hold; None keeps an array's dtype and makes Python floats float32.
        device: "cpu", "cuda", or None for where `data` lies.

    Returns:
        The array itself where nothing has to change.
    """
    xp = namespace(data) if device is None else module(device)
    typed = hasattr(data, "dtype") or (
        isinstance(data, (list, tuple)) and len(data) and hasattr(data[0], "dtype")
    )
    if xp is np and namespace(data) is not np:
        data = data.get()
    array = xp.asarray(data, dtype=dtype)
    if dtype is None and not typed and array.dtype == np.float64:
        array = array.astype(np.float32)
    return array


def is_float(dtype: Any) -> bool:
    """Whether a gradient can flow through this dtype: one of the four floating-point types."""
    return dtype in FLOATS


def wide(dtype: Any) -> Any:
    """The dtype in which sums of `dtype` are added: float32 for the two narrow floats, else itself."""
    return np.dtype(np.float32) if dtype in NARROW else dtype


def scatter_add(target: Array, index: Any, values: Array) -> None:
    """Add `values` to `target[index]`, in place; an element that is named twice receives both."""
    if namespace(target) is np:
        np.add.at(target, index, values)
    else:
        importlib.import_module("cupyx").scatter_add(target, index, values)


def extent(array: Array) -> tuple[Any, int, int]:
    """Where an array lies: the object that owns the memory, the first byte, one past the last byte."""
    if isinstance(array, np.generic):  # NumPy's result of no axes: an object of its own, without an address
        return array, 0, array.nbytes
    owner = array
    while getattr(owner, "base", None) is not None:
        owner = owner.base
    pointer = array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr
    steps = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    low = pointer + sum(s for s in steps if s < 0)
    return owner, low, pointer + sum(s for s in steps if s > 0) + array.itemsize


def _address(x: Array) -> int:
    return int(x.ctypes.data)


def _address_by_header(x: Array) -> int:
    return _POINTER.from_address(id(x) + _HEADER).value or 0


# The address of an array's first element. NumPy's own accessors take 0.8 us, for a small network a tenth of a
# step; the pointer is the first field after the object's header (PyArrayObject in NumPy's binary interface).
_POINTER, _HEADER, _known = ctypes.c_void_p, object.__basicsize__, np.zeros(2)[1:]
address = (
    _address_by_header
    if sys.implementation.name == "cpython" and _address_by_header(_known) == _address(_known)
    else _address
)
