"""How a row comes into the table, and the short way through for elementwise operations.

`Unary` and `Binary` do what `Primitive` does, for one or two tensors or a tensor and a number, without its
detours; whatever is not plain (an observer, an override, other dtypes, an error) goes the long way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlsys_lab.autograd.primitive import Primitive
from mlsys_lab.autograd.tape import Node, mode, table
from mlsys_lab.autograd.tensor import Tensor

new = object.__new__
array, ndarray = np.array, np.ndarray


class Unary(Primitive):
    """An elementwise operation on one tensor."""

    __slots__ = ()

    def __call__(self, x: Any) -> Any:
        if not isinstance(x, Tensor) or x.node is None or not mode.recording:
            return Primitive.__call__(self, x)
        if self.joint is not None or mode.observer is not None:
            return Primitive.__call__(self, x)
        data = x.data
        out = self.forward(data)
        dtype, shape = out.dtype, out.shape
        if dtype is not data.dtype or not shape:
            return Primitive.__call__(self, x)
        rule: Any = self.rules[0]
        result = new(Tensor)
        result.data = out
        result.node = Node(self, ((x.node, rule, rule.pick((out, data))),), out)
        return result


class Binary(Primitive):
    """An elementwise operation on two tensors, or on a tensor and a number at its right."""

    __slots__ = ()

    def __call__(self, x: Any, y: Any) -> Any:
        if not isinstance(x, Tensor) or self.joint is not None or mode.observer is not None:
            return Primitive.__call__(self, x, y)
        left, right = x.node, None
        a = x.data
        dtype = a.dtype
        if type(y) is float and dtype.kind == "f" and type(a) is ndarray:
            b = array(y, dtype)
        elif isinstance(y, Tensor) and y.data.dtype is dtype:
            b, right = y.data, y.node
        else:
            return Primitive.__call__(self, x, y)
        try:
            out = self.forward(a, b)
        except ValueError:
            return Primitive.__call__(self, x, y)  # which says what is wrong
        shape = out.shape
        if out.dtype is not dtype or not shape:
            return Primitive.__call__(self, x, y)
        result = new(Tensor)
        result.data = out
        if (left is None and right is None) or not mode.recording:
            result.node = None
            return result
        pool = (out, a, b)
        first: Any = self.rules[0]
        second: Any = self.rules[1]
        edges: Any
        if right is None:
            edges = ((left, first, first.pick(pool)),)
        elif left is None:
            edges = ((right, second, second.pick(pool)),)
        else:
            edges = ((left, first, first.pick(pool)), (right, second, second.pick(pool)))
        result.node = Node(self, edges, out)
        return result


def row(
    name: str, forward: Callable[..., Any], *rules: Callable[..., Any] | None, **options: Any
) -> Primitive:
    """Put a row into the table; see `Primitive`."""
    short = isinstance(forward, np.ufunc) and len(rules) == forward.nin and not options
    kind = (Unary, Binary)[len(rules) - 1] if short else Primitive
    table[name] = primitive = kind(name, forward, *rules, **options)
    return primitive
