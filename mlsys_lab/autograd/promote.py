"""Which dtype an operation works in, and what is said when arguments do not fit.

Two tensors with axes agree or the operation refuses; what has none, and integers, follow the first
floating-point tensor beside them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlsys_lab._core.backend import FLOATS, Array
from mlsys_lab.autograd.errors import DtypeError, ShapeError
from mlsys_lab.autograd.tensor import Tensor


def unpack(inputs: Any, values: list[Any]) -> tuple[bool, Any]:
    """Put the arrays of a sequence first among the values; tell if one is traced, and the first's dtype."""
    values[0] = [x.data if isinstance(x, Tensor) else x for x in inputs]
    dtypes = [x.data.dtype for x in inputs if isinstance(x, Tensor)]
    return any(isinstance(x, Tensor) and x.node is not None for x in inputs), dtypes[0] if dtypes else None


def agree(op: Any, dtype: Any, values: list[Any]) -> Any:
    """The one dtype of an operation; numbers and lists become arrays of it, which NumPy takes faster.

    Args:
        op: the operation, for the message.
        dtype: of the first tensor.
        values: arrays, numbers and attributes; changed in place.
    """
    values = values[0] if op.variadic else values
    if dtype not in FLOATS:
        found = [
            v.dtype
            for v in values
            if hasattr(v, "dtype") and v.dtype in FLOATS and not isinstance(v, np.generic)
        ]
        if not found:
            return dtype
        dtype = found[0]
    on_host = not any(hasattr(v, "get") and hasattr(v, "dtype") for v in values)
    for i, v in enumerate(values):
        kind = type(v)
        if kind in (float, int, list, tuple):
            if i < op.width and on_host:
                values[i] = np.array(v, dtype)
        elif (
            isinstance(getattr(v, "dtype", None), np.dtype)
            and v.dtype is not dtype
            and v.dtype.kind != "b"
            and v.dtype != dtype
        ):
            if v.shape and v.dtype in FLOATS:
                raise DtypeError(
                    f"{op.name} expects one floating-point dtype, got {dtype} and {v.dtype}: convert one, "
                    f"for example with .astype({str(dtype)!r})"
                )
            values[i] = v.astype(dtype)
    return dtype


def explain(op: Any, values: list[Any], error: Exception) -> Exception:
    """The forward's error with the operation and the shapes in front, in the class that fits."""
    arrays: list[Array] = [v for v in (values[0] if op.variadic else values) if hasattr(v, "shape")]
    shapes = " and ".join(str(v.shape) for v in arrays)
    if isinstance(error, ValueError) and op.joint is None and "broadcast together" in str(error):
        remedy = "reshape one, or add an axis with x[None]"
        return ShapeError(f"{op.name} cannot combine shapes {shapes} ({error}): {remedy}")
    if isinstance(error, ValueError) and op.name == "matmul":
        remedy = "the last axis of the left one is as long as the second last of the right one"
        return ShapeError(f"matmul cannot combine shapes {shapes}: {remedy}")
    kind = next(k for k in (IndexError, ValueError, TypeError) if isinstance(error, k))
    return (ShapeError if kind is ValueError else kind)(f"{op.name} of shape {shapes}: {error}")
