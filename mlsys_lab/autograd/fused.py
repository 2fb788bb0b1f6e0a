"""Fused operations: several steps of a network in one pass over memory, forward and backward.

Each is a function on arrays with a NumPy twin (_fused_numpy.py, the readable definition), a C implementation
(_fused_c.py, fused.c) built at first use, and a place for another device's: `register`. `implementation` says
which one runs, `use` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from mlsys_lab._core.gemm import MAKERS
from mlsys_lab._core.native import NativeError
from mlsys_lab.autograd import _fused_c, _fused_numpy

Array = Any
_registered: dict[tuple[str, str], Callable[..., Any]] = {}
_forced: str | None = None
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
IN_PLACE = ("scatter_add_rows", "sgd_step", "adam_step")


class Operation:
    """One fused operation: calls the implementation for its first array's device and type.

    float16 and bfloat16 are computed in float32 and rounded once; statistics kept for backward stay float32.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.twin: Callable[..., Any] = getattr(_fused_numpy, name)
        self.c: Callable[..., Any] = getattr(_fused_c, name)
        self.current: Callable[..., Any] | None = None  # what runs; None: to be asked again
        self.__doc__ = self.twin.__doc__

    def __call__(self, *arrays: Any, **options: Any) -> Any:
        x = arrays[0]
        if type(x) is not np.ndarray:
            return _registered.get((self.name, "cuda"), self.twin)(*arrays, **options)
        if (dtype := x.dtype) != _SINGLE and dtype != _DOUBLE:
            return self._in_float32(arrays, options)
        if not x.size:
            return self.on_processor(empty=True)(*arrays, **options)
        if self.current is None:
            self.current = self.on_processor()
        return self.current(*arrays, **options)

    def on_processor(self, empty: bool = False) -> Callable[..., Any]:
        """The implementation for float32 on the processor; the twin takes arrays without elements."""
        own = _registered.get((self.name, "cpu"))
        if own is not None and _forced is None:
            return own
        return self.twin if empty or _forced == "numpy" or not c_works() else self.c

    def _in_float32(self, arrays: tuple[Any, ...], options: dict[str, Any]) -> Any:
        dtype = arrays[0].dtype
        if dtype.kind in "iub" or dtype.itemsize != 2:
            raise TypeError(f"{self.name} expects a floating-point array, got {dtype}: use astype")
        wide = [_wide(a) for a in arrays]
        result = self(*wide, **{k: _wide(v) for k, v in options.items()})
        if self.name in IN_PLACE:
            for array, changed in zip(arrays, wide, strict=True):
                if changed is not array:
                    array[...] = changed
            return None
        if not isinstance(result, tuple):
            return result.astype(dtype)
        all_rounded = self.name.endswith("_backward") or self.name == "cross_entropy"
        return tuple(r.astype(dtype) if all_rounded or i == 0 else r for i, r in enumerate(result))


def _wide(x: Any) -> Any:
    return (
        x.astype(np.float32) if isinstance(x, np.ndarray) and x.itemsize == 2 and x.dtype.kind in "fV" else x
    )


matmul = Operation("matmul")
column_sum = Operation("column_sum")
add_bias = Operation("add_bias")
bias_relu = Operation("bias_relu")
bias_relu_backward = Operation("bias_relu_backward")
bias_gelu = Operation("bias_gelu")
bias_gelu_backward = Operation("bias_gelu_backward")
layer_norm = Operation("layer_norm")
layer_norm_backward = Operation("layer_norm_backward")
rms_norm = Operation("rms_norm")
rms_norm_backward = Operation("rms_norm_backward")
cross_entropy = Operation("cross_entropy")
attention = Operation("attention")
attention_backward = Operation("attention_backward")
scatter_add_rows = Operation("scatter_add_rows")
sgd_step = Operation("sgd_step")
adam_step = Operation("adam_step")
OPERATIONS: dict[str, Operation] = {o.name: o for o in list(globals().values()) if isinstance(o, Operation)}


def register(operation: str, device: str, function: Callable[..., Any] | None) -> None:
    """Give an operation an implementation: another device's, or one's own on the processor.

    Args:
        operation: one of `OPERATIONS`.
        device: "cpu" or "cuda".
        function: takes and returns what the NumPy twin does, see its docstring; None takes it back.

    Raises:
        ValueError: an unknown operation or device.
    """
    _known(operation, device)
    if function is None:
        _registered.pop((operation, device), None)
    else:
        _registered[operation, device] = function
    OPERATIONS[operation].current = None


def implementation(operation: str, device: str = "cpu") -> str:
    """What runs: "c", "numpy", or the name of a registered function.

    Raises:
        ValueError: an unknown operation or device.
    """
    op = _known(operation, device)
    function = op.on_processor() if device == "cpu" else _registered.get((operation, device), op.twin)
    if function is op.c or function is op.twin:
        return "c" if function is op.c else "numpy"
    return str(getattr(function, "__qualname__", function))


def available() -> dict[str, dict[str, str]]:
    """Operation -> device -> what runs there."""
    return {name: {d: implementation(name, d) for d in ("cpu", "cuda")} for name in OPERATIONS}


def _known(operation: str, device: str) -> Operation:
    if operation not in OPERATIONS:
        raise ValueError(f"no fused operation {operation!r}: there are {', '.join(OPERATIONS)}")
    if device not in ("cpu", "cuda"):
        raise ValueError(f'a device is "cpu" or "cuda", got {device!r}')
    return OPERATIONS[operation]


@contextmanager
def use(name: str) -> Iterator[None]:
    """Make "numpy" or "c" run on the processor inside a with block, in the whole process.

    Raises:
        NativeError: "c", and it cannot be built.
        ValueError: another name.
    """
    if name not in ("numpy", "c"):
        raise ValueError(f'an implementation is "numpy" or "c", got {name!r}')
    if name == "c":
        _fused_c.library(_SINGLE)
    before = _forced
    _force(name)
    try:
        yield
    finally:
        _force(before)


def _force(name: str | None) -> None:
    global _forced
    _forced = name
    for operation in OPERATIONS.values():
        operation.current = None


def _native_product() -> Operation:
    """The provider `native` of `_core.gemm`."""
    if not c_works():
        raise ImportError("no C compiler")
    return matmul


MAKERS["native"] = _native_product


@cache
def c_works() -> bool:
    """Whether the C implementation could be built here; asked once, at first use."""
    try:
        _fused_c.library(_SINGLE)
    except NativeError:
        return False
    return True
