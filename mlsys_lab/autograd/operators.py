"""Python's operators and a tensor's methods: each calls a row of the table by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlsys_lab.autograd.tape import table

Method = Callable[[Any, Any], Any]


def both_ways(name: str) -> tuple[Method, Method]:
    """An operator, and the same with the tensor on the right."""
    return lambda self, other: table[name](self, other), lambda self, other: table[name](other, self)


def in_place(name: str) -> Method:
    """An operator whose result takes the tensor's place."""
    return lambda self, other: self._become(table[name](self, other))


class Operators:
    """What a tensor can be asked to do; `Tensor` adds the array and the place on the tape."""

    __slots__ = ()

    data: Any
    _become: Callable[[Any], Any]

    __add__, __radd__ = both_ways("add")
    __sub__, __rsub__ = both_ways("subtract")
    __mul__, __rmul__ = both_ways("multiply")
    __truediv__, __rtruediv__ = both_ways("divide")
    __pow__, __rpow__ = both_ways("pow")
    __matmul__, __rmatmul__ = both_ways("matmul")
    __lt__, __gt__ = both_ways("less")[0], both_ways("greater")[0]
    __le__, __ge__ = both_ways("less_equal")[0], both_ways("greater_equal")[0]
    __eq__, __ne__ = both_ways("equal")[0], both_ways("not_equal")[0]
    __iadd__, __isub__ = in_place("add"), in_place("subtract")
    __imul__, __itruediv__ = in_place("multiply"), in_place("divide")

    def __neg__(self) -> Any:
        return table["negative"](self)

    def __abs__(self) -> Any:
        return table["abs"](self)

    def __invert__(self) -> Any:
        return table["logical_not"](self)

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
