"""Tensors from nothing, or from arrays and lists; float32 unless told otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlsys_lab._core.backend import asarray as as_array
from mlsys_lab._core.backend import module
from mlsys_lab.autograd.tensor import Tensor


def asarray(data: Any, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """A tensor off the tape of an array, a number or nested lists; Python floats become float32."""
    return Tensor(as_array(data.data if isinstance(data, Tensor) else data, dtype, device))


def zeros(shape: Any, *, dtype: Any = np.float32, device: str = "cpu") -> Tensor:
    """A tensor of zeros."""
    return Tensor(module(device).zeros(shape, dtype=dtype))


def ones(shape: Any, *, dtype: Any = np.float32, device: str = "cpu") -> Tensor:
    """A tensor of ones."""
    return Tensor(module(device).ones(shape, dtype=dtype))


def full(shape: Any, value: Any, *, dtype: Any = None, device: str = "cpu") -> Tensor:
    """A tensor of one value; a Python float gives float32."""
    dtype = np.float32 if dtype is None and isinstance(value, float) else dtype
    return Tensor(module(device).full(shape, value, dtype=dtype))


def zeros_like(x: Any) -> Tensor:
    """Zeros of a tensor's shape, dtype and device."""
    return Tensor(np.zeros_like(x.data if isinstance(x, Tensor) else x))


def ones_like(x: Any) -> Tensor:
    """Ones of a tensor's shape, dtype and device."""
    return Tensor(np.ones_like(x.data if isinstance(x, Tensor) else x))


def eye(n: int, m: int | None = None, *, k: int = 0, dtype: Any = np.float32, device: str = "cpu") -> Tensor:
    """Ones on a diagonal."""
    return Tensor(module(device).eye(n, m, k=k, dtype=dtype))


def arange(start: Any, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: str = "cpu") -> Tensor:
    """start, start + step, ... below stop; whole numbers give int64, others float32."""
    start, stop = (0, start) if stop is None else (start, stop)
    if dtype is None and any(isinstance(v, float) for v in (start, stop, step)):
        dtype = np.float32
    return Tensor(module(device).arange(start, stop, step, dtype=dtype))


def linspace(start: float, stop: float, num: int, *, dtype: Any = np.float32, device: str = "cpu") -> Tensor:
    """num evenly spaced values, both ends included."""
    return Tensor(module(device).linspace(start, stop, num, dtype=dtype))
