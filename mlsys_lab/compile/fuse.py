"""Fusion: elementwise operations and the reductions between them become one loop over rows and columns.

A loop reads its inputs once and stores only what others read; a reduction along a row ends one pass over
the row and starts the next, as in the hand-written LayerNorm and softmax. `plan` then lets intermediate
results share scratch memory once nobody reads them any more.
"""

from __future__ import annotations

import math
from typing import Any

from mlsys_lab.compile.ir import Graph, Group, Value, base, reads

REDUCTIONS = ("sum", "mean", "max", "min")
REFIT_LIMIT = 200  # members that are looked at again to find another division into rows and columns
ALIGN = 64  # bytes of a cache line, which is also the widest vector
Fit = tuple[str, list[tuple[Any, str]]]


def lies(shape: tuple[int, ...], whole: tuple[int, ...], k: int) -> str | None:
    """How an operand lies in a loop over `whole`, whose first k axes are the rows."""
    shape = (1,) * (len(whole) - len(shape)) + shape
    left, right = shape[:k], shape[k:]
    same_left, same_right = left == whole[:k], right == whole[k:]
    one_left, one_right = all(n == 1 for n in left), all(n == 1 for n in right)
    if same_left and same_right:
        return "full"
    if same_left and one_right:
        return "row"
    if one_left and same_right:
        return "col"
    return "one" if one_left and one_right else None


def divisions(shape: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(axes, rows, columns) for each way to call the first axes rows."""
    return [(k, math.prod(shape[:k]), math.prod(shape[k:])) for k in range(len(shape) + 1)]


def fit(v: Value, rows: int, columns: int, kind: dict[Value, str]) -> Fit | None:
    """How a value and its operands lie in a loop, or None: it does not fit."""
    if v.op in REDUCTIONS:
        x = v.args[0]
        axes = range(len(x.shape)) if v.args[1] is None else v.args[1]
        axes = {a % len(x.shape) for a in (axes if isinstance(axes, (tuple, range)) else (axes,))}
        for k, r, c in divisions(x.shape):
            if (r, c) == (rows, columns) and c > 1 and kind.get(base(x), "full") == "full":
                if axes == set(range(k, len(x.shape))):
                    return "row", [(base(x), "full")]
                if v.op in ("sum", "mean") and r > 1 and axes in (set(range(k)), set(range(len(x.shape)))):
                    return "sum" if len(axes) == k else "all", [(base(x), "full")]
        return None
    for k, r, c in divisions(v.shape):
        whole = "full" if (r, c) == (rows, columns) else "row" if (r, c, k) == (rows, 1, len(v.shape)) else ""
        if not whole or (whole == "row" and columns == 1):
            continue
        found = operands(v, k, whole, rows, kind)
        if found is not None:
            return whole, found
    return None


def operands(v: Value, k: int, whole: str, rows: int, kind: dict[Value, str]) -> list[tuple[Any, str]] | None:
    """Each argument with how it lies, or None where that contradicts how a member lies already."""
    found: list[tuple[Any, str]] = []
    for x in v.args[:1] if v.op in ("broadcast_to", "astype") else v.args:
        if not isinstance(x, Value):
            found.append((x, ""))
            continue
        how = lies(x.shape, v.shape, k)
        if whole == "row":
            how = {"full": "row", "col": "one"}.get(how or "", how)
        if rows == 1 and how == "one":
            how = "row"
        if how is None or kind.get(base(x), how) != how:
            return None
        found.append((base(x), how))
    return found


class Fuser:
    """Puts each value, in order, into the group of what it reads if a loop can hold both."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.groups: list[Group] = []
        self.home: dict[Value, Group] = {}
        self.needs: dict[Group, set[Group]] = {}

    def run(self) -> list[Group]:
        for v in self.graph.values:
            if v.op in ("input", "constant", "reshape"):
                continue
            if not v.plain or not any(self.join(v, g) for g in (*self.candidates(v), Group([]))):
                self.settle(v, Group([]))
        order = self.ordered()
        outside = {base(v) for v in self.graph.outputs}
        for v in self.graph.values:
            outside.update(x for x in map(base, reads(v)) if self.home.get(x) is not self.home.get(base(v)))
        for g in order:
            g.stored = [v for v in g.values if v in outside]
        return order

    def candidates(self, v: Value) -> list[Group]:
        read = [self.home[b] for b in map(base, reads(v)) if b in self.home]
        latest = list(reversed(self.groups[-4:]))
        return [g for g in dict.fromkeys([*reversed(read), *latest]) if g.rows]

    def join(self, v: Value, g: Group) -> bool:
        for x in {base(x) for x in reads(v)}:
            other = self.home.get(x)
            if other is not None and other is not g and self.depends(other, g):
                return False
        found = fit(v, g.rows, g.columns, g.kind) if g.values else None
        if found is None and len(g.values) <= REFIT_LIMIT:
            found = self.refit(v, g)
        if found is None:
            return False
        g.kind[v], g.operands[v] = found
        self.settle(v, g)
        return True

    def refit(self, v: Value, g: Group) -> Fit | None:
        """Another division into rows and columns that holds the group and v."""
        shape = v.args[0].shape if v.op in REDUCTIONS else v.shape
        for _, rows, columns in divisions(shape):
            kind: dict[Value, str] = {}
            operands: dict[Value, list[tuple[Any, str]]] = {}
            for member in (*g.values, v):
                found = fit(member, rows, columns, kind)
                if found is None:
                    break
                kind[member], operands[member] = found
            else:
                g.rows, g.columns, g.kind, g.operands = rows, columns, kind, operands
                return kind[v], operands[v]
        return None

    def settle(self, v: Value, g: Group) -> None:
        if not g.values:
            self.groups.append(g)
            self.needs[g] = set()
        g.values.append(v)
        self.home[v] = g
        self.needs[g].update(
            self.home[b] for b in map(base, reads(v)) if b in self.home and self.home[b] is not g
        )

    def depends(self, g: Group, on: Group) -> bool:
        """Whether a group needs another one, directly or not."""
        seen, stack = {g}, [g]
        while stack:
            for h in self.needs[stack.pop()]:
                if h is on:
                    return True
                if h not in seen:
                    seen.add(h)
                    stack.append(h)
        return False

    def ordered(self) -> list[Group]:
        """The groups so that each comes after those it needs, in the order of the values otherwise."""
        done: dict[Group, None] = {}
        for start in self.groups:
            stack = [start]
            while stack:
                open_ = [h for h in self.groups if h in self.needs[stack[-1]] and h not in done]
                if open_:
                    stack.append(open_[0])
                else:
                    done[stack.pop()] = None
        return list(done)


def fuse(graph: Graph) -> Graph:
    """Group what one loop can compute."""
    return Graph(graph.inputs, graph.values, graph.outputs, Fuser(graph).run())


def plan(graph: Graph) -> Graph:
    """Give intermediate results that only kernels read a place in scratch memory, reused when free."""
    assert graph.groups is not None
    number = {v: i for i, g in enumerate(graph.groups) for v in g.values}
    last: dict[Value, int] = {}
    kept = {base(v) for v in graph.outputs}
    for i, g in enumerate(graph.groups):
        for x in (base(a) for v in g.values for a in reads(v)):
            last[x] = i
            if not g.rows:
                kept.add(x)
    free: list[tuple[int, int]] = []
    place: dict[Value, int] = {}
    end = 0
    for i, g in enumerate(graph.groups):
        mine = [v for v in g.stored if g.rows and v not in kept]
        for v in mine:
            size = -(-v.nbytes // ALIGN) * ALIGN
            hole = min((h for h in free if h[1] >= size), key=lambda h: h[1], default=None)
            if hole is None:
                place[v], end = end, end + size
            else:
                free.remove(hole)
                place[v] = hole[0]
                if hole[1] > size:
                    free.append((hole[0] + size, hole[1] - size))
        for v, start in place.items():
            if last.get(v, number[v]) == i:
                free.append((start, -(-v.nbytes // ALIGN) * ALIGN))
        free = joined(free)
    return Graph(graph.inputs, graph.values, graph.outputs, graph.groups, place, end)


def joined(holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbouring holes as one."""
    out: list[tuple[int, int]] = []
    for start, size in sorted(h for h in holes if h[1]):
        if out and sum(out[-1]) == start:
            out[-1] = (out[-1][0], out[-1][1] + size)
        else:
            out.append((start, size))
    return out
