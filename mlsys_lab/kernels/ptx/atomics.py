"""Atomic operations on arrays, one lane after the other where they meet."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.warp import REDUCE


def changed(view: np.ndarray, index: np.ndarray, way: str, given: list[Any]) -> np.ndarray:
    """Apply an atomic operation lane after lane; what each found."""
    index = np.ascontiguousarray(index)
    before = np.empty(len(index), view.dtype)
    order = np.argsort(index, kind="stable")  # rounds: the first lane of each place, then the second, ...
    sorted_index = index[order]
    start = np.flatnonzero(np.diff(sorted_index, prepend=sorted_index[0] - 1))
    nth = np.arange(len(index)) - np.repeat(start, np.diff(np.append(start, len(index))))
    for turn in range(int(nth.max()) + 1):
        lanes = order[nth == turn]
        before[lanes] = view[index[lanes]]
        view[index[lanes]] = one_atomic(way, before[lanes], [g[lanes] for g in given])
    return before


def one_atomic(way: str, old: np.ndarray, given: list[Any]) -> Any:
    """The new value of an atomic operation, PTX ISA 9.7.13.5."""
    value = given[0].view(old.dtype) if given[0].dtype != old.dtype else given[0]
    if way == "cas":
        return np.where(old == value, given[1].view(old.dtype), old)
    if way == "inc":
        return np.where(old >= value, old.dtype.type(0), old + old.dtype.type(1))
    if way == "dec":
        return np.where((old == 0) | (old > value), value, old - old.dtype.type(1))
    return value if way == "exch" else REDUCE[way][0](old, value)
