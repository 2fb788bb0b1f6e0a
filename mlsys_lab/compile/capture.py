"""From a Python function to a graph: the function runs on real tensors, and an observer writes down.

Backward is written down too: each node's rules are wrapped so that they run on tensors. What would leave
the graph (`item`, `numpy`, a branch on a value) raises, so that nothing is frozen that may change.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mlsys_lab._core.backend import extent, is_float
from mlsys_lab.autograd import Tensor
from mlsys_lab.autograd.tape import Node, mode
from mlsys_lab.autograd.watch import observe
from mlsys_lab.compile.codegen import is_plain
from mlsys_lab.compile.ir import Graph, Value, leaves, mapped

INSIDE = tuple(str(Path(__file__).parents[1] / name) for name in ("autograd", "compile"))
FUSED_ROWS = "mlsys_lab.autograd.fused_rows"
slot: Any = Tensor.__dict__["data"]


class CaptureError(RuntimeError):
    """A function whose steps cannot be known before it runs; the message names what it did."""


def refuse(what: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise CaptureError(f"{what} needs a value while the function is captured: keep it outside")

    return method


class Traced(Tensor):
    """A tensor during capture: it has a value, and keeps it to itself."""

    __slots__ = ()

    def _read(self) -> Any:
        if not sys._getframe(1).f_code.co_filename.startswith(INSIDE):
            raise CaptureError(".data needs a value while the function is captured: keep it outside")
        return slot.__get__(self)

    data: Any = property(_read, lambda self, value: slot.__set__(self, value))
    item, numpy, tolist = refuse(".item()"), refuse(".numpy()"), refuse(".tolist()")
    __array__, __repr__ = refuse("a NumPy function"), refuse("printing")
    __bool__ = refuse("a Python branch")
    __float__ = __int__ = __index__ = refuse("a Python number")
    _become = refuse("a change in place")

    def __iadd__(self, other: Any) -> Any:
        if sys._getframe(1).f_code.co_filename.startswith(INSIDE):  # the engine adds up gradients
            return self + other
        return self._become(other)


class Proxy:
    """A primitive on a captured node: nothing is added to its gradients in place."""

    custom = True

    def __init__(self, op: Any) -> None:
        self.op, self.name = op, op.name

    def tracked(self, node: Node, values: Any, rule: Any) -> Any:
        return values


class Tracer(observe):
    """Hears of each operation and writes it down.

    Attributes:
        sources: the tensors that the graph reads, arguments first, then those that the function closes over.
        primitives: the rows that were used, with the rule of an override if there was one.
    """

    def __init__(self) -> None:
        super().__init__(self.hear)
        self.values: list[Value] = []
        self.inputs: list[Value] = []
        self.sources: list[tuple[Tensor, Value]] = []
        self.known: dict[int, Value] = {}  # by id of a tensor or an array
        self.owners: set[int] = set()  # of the memory of all known arrays
        self.kept: list[Any] = []  # so that no id is used again
        self.primitives: dict[Any, Any] = {}
        self.nodes: list[tuple[Node, Any]] = []
        self.earlier: set[int] = set()  # ids of `.grad` from before, and of sums with it

    def add(self, *fields: Any, **more: Any) -> Value:
        self.values.append(v := Value(*fields, **more))
        return v

    def know(self, tensor: Any, data: Any, value: Value) -> None:
        self.known[id(tensor)] = self.known[id(data)] = value
        self.owners.add(id(extent(data)[0]))
        self.kept.append((tensor, data))

    def input(self, data: Any, name: str, requires_grad: bool = False) -> Traced:
        """A tensor that the graph is given at each run."""
        x = Tensor(data, requires_grad)
        value = self.add("input", (), x.shape, x.dtype, data=name)
        self.inputs.append(value)
        self.know(x, x.data, value)
        x.__class__ = Traced
        self.lay_aside(x)
        return x  # type: ignore[return-value]

    def value_of(self, x: Any) -> Any:
        """The value of a tensor or an array, an attribute as it is."""
        if isinstance(x, (np.ndarray, np.generic)):
            if id(x) in self.known:
                return self.known[id(x)]
            x = np.asarray(x)
            if id(extent(x)[0]) in self.owners and x.size:
                raise CaptureError("NumPy worked on a tensor's array: use the engine's operations")
            return self.constant(x)
        if not isinstance(x, Tensor):
            return x
        found = self.known.get(id(x)) or self.known.get(id(slot.__get__(x)))
        return found if found is not None else self.closed_over(x)

    def constant(self, data: Any) -> Value:
        value = self.add("constant", (), data.shape, data.dtype, data=data)
        self.known[id(data)] = value
        self.kept.append(data)
        return value

    def closed_over(self, x: Tensor) -> Value:
        """A tensor from outside: read anew at each run."""
        if not x.is_leaf:
            raise CaptureError("the function closes over a result on the tape: pass it as an argument")
        value = self.add("input", (), x.shape, x.dtype, data=f"outside {len(self.sources)}")
        self.inputs.append(value)
        self.sources.append((x, value))
        self.know(x, x.data, value)
        self.lay_aside(x)
        return value

    def lay_aside(self, x: Tensor) -> None:
        """Take a leaf's hooks off until the capture is over, and put a stand-in into `.grad`.

        What is added to the stand-in is what the function adds; where it is gone, the function reset `.grad`.
        """
        if x.node is not None and all(node is not x.node for node, _ in self.nodes):
            self.nodes.append((x.node, (x.node.grad, x.node.hooks, x.node.ready)))
            x.node.hooks = x.node.ready = None
            x.node.grad = self.made(
                np.zeros(x.shape, x.dtype), Value("gradient before", (), x.shape, x.dtype)
            )
            self.earlier.add(id(x.node.grad))

    def restore(self) -> None:
        for node, state in self.nodes:
            node.grad, node.hooks, node.ready = state

    def lifted(self, g: Any) -> Any:
        """A gradient as a tensor that is known."""
        if isinstance(g, Tensor):
            return g
        t = Tensor.made(g, None)
        self.know(t, g, self.value_of(g))
        t.__class__ = Traced
        return t

    def hear(self, op: Any, arguments: tuple[Any, ...], result: Any) -> None:
        """Write an operation down, and make its result a traced one."""
        self.primitives.setdefault(op, op.joint)
        data = result.data
        if any(id(x) in self.earlier for x in leaves(arguments)):
            if op.name != "add" or id(arguments[1]) in self.earlier:
                raise CaptureError("the function reads .grad, which may hold more: reset it first")
            self.earlier.add(id(result))
            if self.value_of(arguments[0]).op == "gradient before":
                self.know(result, data, self.value_of(arguments[1]))
                result.__class__ = Traced
                return
        args = mapped(self.value_of, arguments)
        if op.same and is_float(data.dtype):
            args = self.agreeing(op, args, data.dtype)
        forward, keeps, kept = op.forward, op.keeps, None
        opaque = op.custom or any(
            r is not None and r.function.__module__ == FUSED_ROWS for r in (*op.rules, op.joint)
        )
        if keeps and opaque:
            call = self.add(op.name, args, (), None, forward=forward)
            value = self.add("pick", (call, 0), data.shape, data.dtype, forward=take)
            kept = self.add("pick", (call, 1), (), None, forward=take)
        else:
            run = (lambda *a: forward(*a)[0]) if keeps else forward
            value = self.add(op.name, args, data.shape, data.dtype, forward=run)
            value.plain = not op.custom and is_plain(value)
        self.know(result, data, value)
        result.__class__ = Traced
        if result.node is not None:
            pool, known = (result, *arguments), (value, *args, kept)
            result.node.op = Proxy(op)
            result.node.edges = [
                (parent, rule.with_function(self.captured(op, rule, pool, known, saved, opaque)), saved)
                for parent, rule, saved in result.node.edges
            ]

    def agreeing(self, op: Any, args: Any, dtype: Any) -> Any:
        """Arguments in the dtype of the result, as the engine converts them."""

        def cast(x: Any) -> Any:
            if not isinstance(x, Value) or x.dtype == dtype or x.dtype is None or x.dtype.kind == "b":
                return x
            return self.cast(x, dtype)

        if op.variadic:
            return (mapped(cast, args[0]), *args[1:])
        return tuple(cast(x) if isinstance(x, Value) else x for x in args)

    def cast(self, x: Value, dtype: Any) -> Value:
        value = self.add("astype", (x, dtype), x.shape, dtype, forward=lambda a, d: a.astype(d))
        value.plain = is_plain(value)
        return value

    def captured(
        self, op: Any, rule: Any, pool: tuple[Any, ...], known: tuple[Any, ...], saved: Any, opaque: bool
    ) -> Callable[..., Any]:
        """The rule as the walk shall call it: on tensors, or as one call that is written down whole."""

        def on_tensors(g: Any, *ignored: Any) -> Any:
            return rule.function(
                self.lifted(g), *[self.named(op, pool, saved, rule, p) for p in rule.positions]
            )

        def whole(g: Any, *ignored: Any) -> Any:
            if mode.recording:
                raise CaptureError(f"a second derivative through {op.name!r} is not captured")
            g = self.lifted(g)
            args = (self.value_of(g), *[known[p] for p in rule.positions])
            parts = rule.function(g.data, *saved)
            name = f"gradient of {op.name}"
            if not isinstance(parts, tuple):
                return self.made(parts, self.add(name, args, parts.shape, parts.dtype, forward=rule.function))
            call = self.add(name, args, (), None, forward=rule.function)
            return tuple(
                None
                if part is None
                else self.made(part, self.add("pick", (call, i), part.shape, part.dtype, forward=take))
                for i, part in enumerate(parts)
            )

        return whole if opaque else on_tensors

    @staticmethod
    def named(op: Any, pool: tuple[Any, ...], saved: Any, rule: Any, position: int) -> Any:
        """What a rule calls `out`, an argument or `kept`: a tensor where there was one."""
        if position < len(pool):
            x = pool[position]
            return list(x) if op.variadic and position == 1 else x
        return saved[rule.positions.index(position)]

    def made(self, data: Any, value: Value) -> Traced:
        t = Tensor.made(data, None)
        self.know(t, data, value)
        t.__class__ = Traced
        return t  # type: ignore[return-value]

    def graph(self, outputs: list[Value]) -> Graph:
        return Graph(list(self.inputs), list(self.values), outputs)


def take(call: Any, i: int) -> Any:
    return call[i]
