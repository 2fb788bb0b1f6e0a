"""Python's operators and a tensor's methods: each calls a row of the table by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlsys_lab.autograd.tape import table


class Operators:
    """What a tensor can be asked to do; `Tensor` adds the array and the place on the tape."""

    __slots__ = ()

    data: Any
    _become: Callable[[Any], Any]

    def __add__(self, other: Any) -> Any:
        return table["add"](self, other)

    def __radd__(self, other: Any) -> Any:
        return table["add"](other, self)

    def __sub__(self, other: Any) -> Any:
        return table["subtract"](self, other)

    def __rsub__(self, other: Any) -> Any:
        return table["subtract"](other, self)

    def __mul__(self, other: Any) -> Any:
        return table["multiply"](self, other)

    def __rmul__(self, other: Any) -> Any:
        return table["multiply"](other, self)

    def __truediv__(self, other: Any) -> Any:
        return table["divide"](self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return table["divide"](other, self)

    def __pow__(self, other: Any) -> Any:
        return table["pow"](self, other)

    def __rpow__(self, other: Any) -> Any:
        return table["pow"](other, self)

    def __matmul__(self, other: Any) -> Any:
        return table["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return table["matmul"](other, self)

    def __neg__(self) -> Any:
        return table["negative"](self)

    def __abs__(self) -> Any:
        return table["abs"](self)

    def __lt__(self, other: Any) -> Any:
        return table["less"](self, other)

    def __le__(self, other: Any) -> Any:
        return table["less_equal"](self, other)

    def __gt__(self, other: Any) -> Any:
        return table["greater"](self, other)

    def __ge__(self, other: Any) -> Any:
        return table["greater_equal"](self, other)

    def __eq__(self, other: object) -> Any:
        return table["equal"](self, other)

    def __ne__(self, other: object) -> Any:
        return table["not_equal"](self, other)

    def __invert__(self) -> Any:
        return table["logical_not"](self)

    def __iadd__(self, other: Any) -> Any:
        return self._become(table["add"](self, other))

    def __isub__(self, other: Any) -> Any:
        return self._become(table["subtract"](self, other))

    def __imul__(self, other: Any) -> Any:
        return self._become(table["multiply"](self, other))

    def __itruediv__(self, other: Any) -> Any:
        return self._become(table["divide"](self, other))

    @property
    def T(self) -> Any:
        return table["permute_dims"](self, tuple(reversed(range(self.data.ndim))))

    @property
    def mT(self) -> Any:
        return table["matrix_transpose"](self)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return table["sum"](self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        return table["mean"](self, axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        return table["max"](self, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        return table["min"](self, axis, keepdims)

    def reshape(self, *shape: Any) -> Any:
        return table["reshape"](self, shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape)

    def astype(self, dtype: Any) -> Any:
        return table["astype"](self, np.dtype(dtype))
