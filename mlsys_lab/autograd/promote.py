"""Which dtype an operation works in, and what is said when arguments do not fit.

Two tensors agree or the operation refuses; numbers and integers follow the floating-point tensor beside them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlsys_lab._core.backend import Array, is_float
from mlsys_lab.autograd.errors import DtypeError, ShapeError
from mlsys_lab.autograd.tensor import Tensor

PLAIN = (float, int, bool, tuple, type(None), str)  # numbers that take a tensor's dtype, and attributes


def unpack(arguments: tuple[Any, ...], values: list[Any]) -> tuple[bool, Any]:
    """Replace the first argument, a sequence, by its arrays; tell whether one is on the tape, and the dtype."""
    inputs = arguments[0]
    values[0] = [x.data if isinstance(x, Tensor) else x for x in inputs]
    dtypes = [x.data.dtype for x in inputs if isinstance(x, Tensor)]
    return any(isinstance(x, Tensor) and x.node is not None for x in inputs), dtypes[0] if dtypes else None


def agree(op: Any, arguments: tuple[Any, ...], values: list[Any]) -> Any:
    """The one floating-point dtype of an operation's tensors and arrays; makes numbers and integers follow it."""
    of_list = values[0] if op.variadic else values
    inputs = list(arguments[0] if op.variadic else arguments)
    dtypes = [v.dtype for v in of_list if isinstance(getattr(v, "dtype", None), np.dtype) and v.shape != ()]
    dtypes += [x.data.dtype for x in inputs if isinstance(x, Tensor) and not x.data.shape]
    floats = sorted({d for d in dtypes if is_float(d)}, key=str)
    if len(floats) > 1:
        raise DtypeError(
            f"{op.name} expects one floating-point dtype, got {' and '.join(map(str, floats))}: "
            f"convert one, for example with .astype({str(floats[0])!r})"
        )
    if not floats:
        return dtypes[0] if dtypes else None
    for i, v in enumerate(of_list):
        if isinstance(v, np.generic):
            of_list[i] = v.item()
        elif hasattr(v, "astype") and v.dtype != floats[0] and v.dtype.kind in "iu":
            of_list[i] = v.astype(floats[0])
    return floats[0]


def explain(op: Any, values: list[Any], error: Exception) -> Exception:
    """The forward's error with the operation and the shapes in front, in the class that fits."""
    arrays: list[Array] = [v for v in (values[0] if op.variadic else values) if hasattr(v, "shape")]
    shapes = " and ".join(str(v.shape) for v in arrays)
    kind = ShapeError if isinstance(error, ValueError) and not isinstance(error, IndexError) else type(error)
    return kind(
        f"{op.name} cannot combine shapes {shapes} ({error}): reshape one, or add an axis with x[None]"
    )
