"""Passes: each takes a graph and gives a graph that computes the same from fewer operations, or nearer ones.

Folding, common subexpressions and dead code as in Cooper and Torczon, Engineering a Compiler, chapters 8
and 10. Fusion and the plan of the buffers are in `fuse.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mlsys_lab.compile.ir import Graph, Value, evaluate, mapped, reads

FOLD_LIMIT = 1 << 16  # elements: a larger constant costs more to read than to compute


def rebuilt(graph: Graph, change: Callable[[Value], Value]) -> Graph:
    """A graph with each value put through `change`, its arguments first."""
    new: dict[Value, Value] = {}
    values: dict[Value, None] = {}
    for v in graph.values:
        same = v.op in ("input", "constant")
        copy = v if same else replace(v, args=mapped(lambda x: new[x] if isinstance(x, Value) else x, v.args))
        new[v] = changed = change(copy)
        values[changed] = None
    return Graph(graph.inputs, list(values), [new[v] for v in graph.outputs])


def fold(graph: Graph) -> Graph:
    """Compute what depends on constants alone, and drop operations that change nothing."""

    def change(v: Value) -> Value:
        inputs = reads(v)
        known = inputs and v.dtype is not None and all(x.op == "constant" for x in inputs)
        if known and max(math.prod(x.shape) for x in (v, *inputs)) <= FOLD_LIMIT:
            data = evaluate(v, mapped(lambda x: x.data if isinstance(x, Value) else x, v.args))
            return Value("constant", (), v.shape, v.dtype, data=data)
        return idle(v)

    return rebuilt(graph, change)


def idle(v: Value) -> Value:
    """The argument that a value is equal to, bit by bit, or the value itself."""
    if v.op == "reshape" and v.args[0].op == "reshape":
        v = replace(v, args=(v.args[0].args[0], v.args[1]))
    x = v.args[0] if v.args else None
    moves = v.op in ("reshape", "broadcast_to", "astype")
    times_one = v.op in ("multiply", "divide") and v.dtype.kind == "f" and is_one(v.args[1])
    if v.op == "multiply" and v.dtype.kind == "f" and is_one(x):
        x, times_one = v.args[1], True
    if (moves or times_one) and isinstance(x, Value) and (x.shape, x.dtype) == (v.shape, v.dtype):
        return x
    return v


def is_one(x: Any) -> bool:
    if isinstance(x, Value):
        return x.op == "constant" and x.data.dtype.kind == "f" and bool((x.data == 1).all())
    return isinstance(x, (int, float)) and x == 1


def key(x: Any) -> Any:
    """Equal for equal arguments: values by identity, the rest by type and text."""
    if isinstance(x, Value):
        return id(x)
    if isinstance(x, (tuple, list)):
        return (type(x), *map(key, x))
    return (type(x), repr(x))


def cse(graph: Graph) -> Graph:
    """Compute what is computed twice once."""
    seen: dict[Any, Value] = {}

    def change(v: Value) -> Value:
        if v.op == "input":
            return v
        if v.op == "constant":
            same = (v.shape, v.dtype, v.data.tobytes() if v.data.size <= FOLD_LIMIT else id(v.data))
        else:
            same = (v.shape, v.dtype, id(v.forward) if v.op.startswith("gradient of") else None, *key(v.args))
        return seen.setdefault((v.op, same), v)

    return rebuilt(graph, change)


def dce(graph: Graph) -> Graph:
    """Leave out what no output depends on."""
    needed = set(graph.outputs)
    for v in reversed(graph.values):
        if v in needed:
            needed.update(reads(v))
    return Graph(graph.inputs, [v for v in graph.values if v in needed or v.op == "input"], graph.outputs)
