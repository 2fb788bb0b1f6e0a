"""The intermediate representation: a list of values, each an operation on earlier values.

Static single assignment with shapes and dtypes fixed (Cytron et al. 1991). It prints as stable text, and
`interpret` runs it on NumPy one value at a time, which defines what every pass has to preserve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(eq=False, slots=True)
class Value:
    """What one operation makes.

    Attributes:
        op: the operation's name; "input" and "constant" have no arguments.
        args: values, numbers and attributes, nested as the operation takes them.
        shape, dtype: of the array; dtype None: not an array but what an operation keeps for its gradient.
        forward: computes the array from the arguments.
        data: a constant's array, or an input's name.
        plain: computed element by element, or a reduction, by the rules of `codegen.EXPRESSIONS`.
    """

    op: str
    args: tuple[Any, ...]
    shape: tuple[int, ...]
    dtype: Any
    forward: Callable[..., Any] | None = None
    data: Any = None
    plain: bool = False

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize if self.dtype else 0


@dataclass(eq=False, slots=True)
class Group:
    """Values that one loop computes, over `rows` times `columns` elements; or one call, with rows 0.

    Attributes:
        kind: of each member, how its elements lie in the loop: "full", "row" (one per row), "sum" (over
            the rows, one per column) or "all" (one number, known after the loop).
        operands: per member its arguments as (the value that is read, its kind), kind "" for a number; an
            argument may also be "col" (one per column) or "one".
        stored: the members that others read.
    """

    values: list[Value]
    rows: int = 0
    columns: int = 0
    kind: dict[Value, str] = field(default_factory=dict)
    operands: dict[Value, list[tuple[Any, str]]] = field(default_factory=dict)
    stored: list[Value] = field(default_factory=list)


@dataclass(eq=False)
class Graph:
    """Values in an order in which they can be computed; groups and places once the passes made them.

    Attributes:
        place: where a value that only kernels read lies in the scratch memory, in bytes.
        scratch_bytes: how much scratch memory there is.
    """

    inputs: list[Value]
    values: list[Value]
    outputs: list[Value]
    groups: list[Group] | None = None
    place: dict[Value, int] = field(default_factory=dict)
    scratch_bytes: int = 0

    def __str__(self) -> str:
        return "\n".join(lines(self))


def leaves(tree: Any) -> Iterator[Any]:
    """The leaves of nested tuples, lists and dictionaries, in order."""
    if isinstance(tree, (tuple, list, dict)):
        for one in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(one)
    else:
        yield tree


def mapped(f: Callable[[Any], Any], tree: Any) -> Any:
    """The same nesting with f(leaf) for each leaf."""
    if isinstance(tree, dict):
        return {key: mapped(f, one) for key, one in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [mapped(f, one) for one in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return f(tree)


def reads(value: Value) -> list[Value]:
    """The values among the arguments."""
    return [v for v in leaves(value.args) if isinstance(v, Value)]


def base(value: Value) -> Value:
    """The value whose memory this one names: a reshape moves nothing."""
    while value.op == "reshape":
        value = value.args[0]
    return value


def evaluate(value: Value, args: Any) -> Any:
    """Compute one value from its arguments, in its dtype."""
    assert value.forward is not None
    out = value.forward(*args)
    if value.dtype is not None:
        out = np.asarray(out)
        out = out if out.dtype == value.dtype else out.astype(value.dtype)
    return out


def interpret(graph: Graph, inputs: Sequence[Any]) -> list[Any]:
    """Run a graph value by value; the reference for passes and code generators."""
    env = dict(zip(graph.inputs, inputs, strict=True))
    for v in graph.values:
        if v.op != "input":
            arguments = mapped(lambda x: env[x] if isinstance(x, Value) else x, v.args)
            env[v] = v.data if v.op == "constant" else evaluate(v, arguments)
    return [env[v] for v in graph.outputs]


def type_name(v: Value) -> str:
    return f"{v.dtype}[{','.join(map(str, v.shape))}]" if v.dtype is not None else "kept"


def bytes_moved(graph: Graph) -> int:
    """Bytes read and written: per group (before fusion: per value) its inputs and what it stores."""
    if graph.groups is None:
        inner = [v for v in graph.values if v.op not in ("input", "constant", "reshape")]
        return sum(sum(base(a).nbytes for a in set(reads(v))) + v.nbytes for v in inner)
    total = 0
    for g in graph.groups:
        outside = {base(a) for v in g.values for a in reads(v)} - set(g.values)
        total += sum(a.nbytes for a in outside) + sum(v.nbytes for v in (g.stored if g.rows else g.values))
    return total


def lines(graph: Graph) -> Iterator[str]:
    """The graph as text, one value per line, numbered in order."""
    names = {v: f"%{i}" for i, v in enumerate(graph.values)}

    def spell(x: Any) -> str:
        if isinstance(x, Value):
            return names[x]
        if isinstance(x, (tuple, list)):
            inner = ", ".join(map(spell, x))
            return f"[{inner}]" if isinstance(x, list) else f"({inner}{',' * (len(x) == 1)})"
        return f"{x:.9g}" if isinstance(x, float) else str(x)

    def line(v: Value) -> str:
        text = ", ".join(map(spell, v.args))
        if v.op == "input":
            text = v.data
        elif v.op == "constant":
            flat = v.data.reshape(-1)
            text = "" if not flat.size else f"{flat[0]}" + (", ..." if (flat != flat[0]).any() else "")
        where = f"  @{graph.place[v]}" if v in graph.place else ""
        return f"{names[v]} = {v.op}({text}) : {type_name(v)}{where}"

    if graph.groups is None:
        yield from map(line, graph.values)
    else:
        inside = {v for g in graph.groups for v in g.values}
        yield from (line(v) for v in graph.values if v not in inside)
        for i, g in enumerate(graph.groups):
            stored = ", ".join(names[v] for v in g.stored)
            yield f"kernel {i} over {g.rows} x {g.columns}, stores {stored}" if g.rows else f"call {i}"
            yield from ("    " + line(v) for v in g.values)
    yield f"return {', '.join(names[v] for v in graph.outputs)}"
    scratch = f", {graph.scratch_bytes} bytes of scratch memory" if graph.place else ""
    count = len(graph.values) - len(graph.inputs)
    yield f"# {count} values, {bytes_moved(graph)} bytes moved{scratch}"
