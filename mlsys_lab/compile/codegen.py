"""From a graph to something that runs: C where there is a compiler, NumPy otherwise.

Neighbouring kernels become one C function over a table of addresses; products and other large operations
stay calls of the engine's own functions between them. C keeps NumPy's meaning: NaN passes through maxima,
nothing is reassociated but sums along rows and over all, which are added in double precision; sums down the
columns are added row by row in the result's type, as NumPy adds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import numpy as np

from mlsys_lab.compile.fuse import ALIGN, REDUCTIONS
from mlsys_lab.compile.ir import Graph, Group, Value

TYPES = {"f4": "float", "f8": "double", "b1": "_Bool"}
INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "logical_and": "&&", "logical_or": "||",
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!=",
}  # fmt: skip
# {0}, {1}, {2}: arguments; {f}: the suffix of C's functions on float; {T}: the type of the result.
EXPRESSIONS = {
    **{name: f"{{0}} {infix} {{1}}" for name, infix in INFIX.items()},
    "negative": "-{0}",
    "abs": "fabs{f}({0})",
    "square": "{0} * {0}",
    "pow": "pow{f}({0}, {1})",
    "maximum": "({0} > {1} || {0} != {0}) ? {0} : {1}",
    "minimum": "({0} < {1} || {0} != {0}) ? {0} : {1}",
    "clip": "({0} < {1} ? {1} : {0}) > {2} ? {2} : ({0} < {1} ? {1} : {0})",
    "where": "{0} ? {1} : {2}",
    "sign": "{0} != {0} ? {0} : ({T})(({0} > 0) - ({0} < 0))",
    **{n: f"{n}{{f}}({{0}})" for n in ("sqrt", "floor", "ceil", "rint", "expm1", "log", "log2", "log1p")},
    **{n: f"{n}{{f}}({{0}})" for n in ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh")},
    **{n: f"{n}_{{T}}({{0}})" for n in ("exp", "erf", "tanh")},
    "relu": "{0} < 0 ? 0 : {0}",
    "sigmoid": "({T})0.5 * tanh_{T}(({T})0.5 * {0}) + ({T})0.5",
    "silu": "{0} * (({T})0.5 * tanh_{T}(({T})0.5 * {0}) + ({T})0.5)",
    "gelu": "({T})0.5 * {0} * (1 + erf_{T}({0} * ({T})0.70710678118654752))",
    "gelu_tanh": "({T})0.5 * {0} * (1 + tanh_{T}(({T})0.79788456080286536 * "
    "({0} + ({T})0.044715 * {0} * {0} * {0})))",
    "logical_not": "!{0}",
    "isnan": "{0} != {0}",
    "isfinite": "isfinite({0})",
    "astype": "({T}){0}",
    "broadcast_to": "{0}",
}
POWERS = {1: "{0}", 2: "{0} * {0}", 3: "{0} * {0} * {0}", 0.5: "sqrt{f}({0})", -1: "1 / {0}"}
FLAGS = ("-ffp-contract=off",)  # a product and a sum are rounded apart, as NumPy rounds them
HEAD = """#include <math.h>
#include <stdint.h>
typedef int64_t I;
#define exp_double exp
#define erf_double erf
#define tanh_double tanh
/* ---- """


def is_plain(v: Value) -> bool:
    """Whether C can compute a value: a known operation on float32, float64 and booleans."""
    args = [x for x in v.args if isinstance(x, Value)] if v.op != "broadcast_to" else [v.args[0]]
    if v.op not in EXPRESSIONS and v.op not in REDUCTIONS:
        return False
    floats = {x.dtype for x in (v, *args) if x.dtype is not None and x.dtype.kind == "f"}
    if v.op in REDUCTIONS or (v.op in ("multiply", "add") and v.dtype.kind != "f"):
        return v.dtype.str[1:] in ("f4", "f8") and floats == {v.dtype}
    one = len(floats) == 1 or v.op == "astype" or not floats
    return one and all(x.dtype is not None and x.dtype.str[1:] in TYPES for x in (v, *args))


def prelude() -> str:
    """exp, erf and tanh that vectorise, from the engine's fused operations."""
    text = resources.files("mlsys_lab.autograd").joinpath("fused.c").read_text(encoding="utf-8")
    section = text.split("/* ---- ")[1].removesuffix("\n").rpartition("#endif")[0]
    # Inlined whatever happens, or no loop vectorises.
    return HEAD + section.replace("static inline", "static inline __attribute__((always_inline))")


def literal(x: Any, kind: str) -> str:
    """A number of Python as a number of C, exactly."""
    if isinstance(x, (bool, np.bool_)):
        return str(int(x))
    x = float(np.float32(x)) if kind == "float" else float(x)
    text = "NAN" if np.isnan(x) else "INFINITY" if np.isinf(x) else abs(x).hex() + "f" * (kind == "float")
    return f"(-{text})" if np.signbit(x) else text


class Kernel:
    """One group as C: a loop over the rows, in it a loop over the columns per pass.

    Args:
        group: what to compute.
        address: a C expression for where a value's memory starts.
        row_buffer: makes room for one row of a value that a later pass reads again.
    """

    def __init__(
        self, group: Group, address: Callable[[Value], str], row_buffer: Callable[[Value], str]
    ) -> None:
        self.group = group
        self.names: dict[Value, str] = {v: f"v{i}" for i, v in enumerate(group.values)}
        self.pointers: dict[Value, str] = {}
        self.address, self.row_buffer = address, row_buffer
        self.depth = self.depths()
        self.again: set[Value] = set()  # full values that a later pass reads
        for v in group.values:
            when = self.depth[v]
            self.again.update(
                x
                for x, how in group.operands[v]
                if how == "full" and x in group.kind and self.depth[x] < when
            )

    def depths(self) -> dict[Value, int]:
        """In which pass over a row a value is computed: after the reductions that it reads."""
        depth: dict[Value, int] = {}
        for v in self.group.values:
            inputs = [
                depth[x] + (x.op in REDUCTIONS)
                for x, how in self.group.operands[v]
                if how and x in self.group.kind
            ]
            depth[v] = max(inputs, default=0)
        return depth

    def lines(self) -> Iterator[str]:
        g = self.group
        for v in g.stored:
            self.pointer(v)
        body = [line for d in range(max(self.depth.values()) + 1) for line in self.one_pass(d)]
        yield "{"
        yield from self.declared()
        sums = [v for v in g.values if g.kind[v] == "sum"]
        totals = [v for v in g.values if g.kind[v] == "all"]
        for v in sums:
            yield f"for (I c = 0; c < {g.columns}; c++) {self.pointer(v)}[c] = 0;"
        yield from (f"double t{self.names[v]} = 0;" for v in totals)
        yield f"for (I r = 0; r < {g.rows}; r++) {{"
        yield from body
        yield "}"
        for v in sums:
            if v.op == "mean":
                yield f"for (I c = 0; c < {g.columns}; c++) {self.pointer(v)}[c] /= {g.rows};"
        for v in totals:
            over = f" / {g.rows * g.columns}" if v.op == "mean" else ""
            yield f"*{self.pointer(v)} = t{self.names[v]}{over};"
        yield "}"

    def declared(self) -> Iterator[str]:
        for v, name in self.pointers.items():
            own = "" if v in self.group.kind else "const "
            kind = TYPES[v.dtype.str[1:]]
            yield f"{own}{kind} *restrict {name} = {self.address(v)};"

    def pointer(self, v: Value) -> str:
        if v not in self.pointers:
            self.pointers[v] = f"p{len(self.pointers)}"
        return self.pointers[v]

    def one_pass(self, d: int) -> Iterator[str]:
        g = self.group
        mine = [v for v in g.values if self.depth[v] == d]
        for v in mine:
            if g.kind[v] == "row" and v.op not in REDUCTIONS:
                yield self.computed(v, d)
                if v in g.stored:
                    yield f"{self.pointer(v)}[r] = {self.names[v]};"
        inner = [v for v in mine if g.kind[v] != "row" or v.op in REDUCTIONS]
        if not inner:
            return
        reductions = [v for v in inner if g.kind[v] in ("row", "all")]
        clauses = ""
        for v in reductions:
            name, kind = self.names[v], TYPES[v.dtype.str[1:]]
            if v.op in ("sum", "mean"):
                yield f"double a{name} = 0;"
                clauses += f" reduction(+:a{name})"
            else:
                yield f"{kind} a{name} = {'-' if v.op == 'max' else ''}INFINITY; int n{name} = 0;"
                clauses += f" reduction({v.op}:a{name}) reduction(|:n{name})"
        yield f"#pragma omp simd{clauses}"
        yield f"for (I c = 0; c < {g.columns}; c++) {{"
        yield from (line for v in inner for line in self.inner(v, d))
        yield "}"
        for v in reductions:
            name, kind = self.names[v], TYPES[v.dtype.str[1:]]
            if g.kind[v] == "all":
                yield f"t{name} += a{name};"
                continue
            over = f" / {g.columns}" if v.op == "mean" else ""
            result = f"n{name} ? NAN : a{name}" if v.op in ("max", "min") else f"a{name}{over}"
            yield f"const {kind} {name} = {result};"
            if v in g.stored:
                yield f"{self.pointer(v)}[r] = {name};"

    def inner(self, v: Value, d: int) -> Iterator[str]:
        """The statements of one value inside the loop over the columns."""
        g, name = self.group, self.names[v]
        if v.op not in REDUCTIONS:
            yield self.computed(v, d)
            if v in g.stored:
                yield f"{self.pointer(v)}[r * {g.columns} + c] = {name};"
            elif v in self.again:
                yield f"{self.row_of(v)}[c] = {name};"
            return
        x = self.operand(*g.operands[v][0], d)
        if g.kind[v] == "sum":
            yield f"{self.pointer(v)}[c] += {x};"
        elif v.op in ("sum", "mean"):
            yield f"a{name} += {x};"
        else:
            sign = ">" if v.op == "max" else "<"
            yield f"a{name} = {x} {sign} a{name} ? {x} : a{name}; n{name} |= {x} != {x};"

    def row_of(self, v: Value) -> str:
        """The buffer of one row, named like a pointer and declared with the others."""
        return f"(({TYPES[v.dtype.str[1:]]} *)({self.row_buffer(v)}))"

    def operand(self, x: Any, how: str, d: int) -> str:
        g = self.group
        if x in g.kind:
            if how == "full" and self.depth[x] < d:
                return f"{self.pointer(x)}[r * {g.columns} + c]" if x in g.stored else f"{self.row_of(x)}[c]"
            return self.names[x]
        index = {"full": f"r * {g.columns} + c", "row": "r", "col": "c", "one": "0"}[how]
        if x.op == "constant" and x.data.size and x.data.tobytes() == x.data.flat[0].tobytes() * x.data.size:
            return f"({TYPES[x.dtype.str[1:]]}){literal(x.data.flat[0], TYPES[x.dtype.str[1:]])}"
        return f"{self.pointer(x)}[{index}]"

    def computed(self, v: Value, d: int) -> str:
        kind = TYPES[v.dtype.str[1:]]
        operands = self.group.operands[v]
        floats = [x.dtype for x, how in operands if how and x.dtype.kind == "f"]
        within = TYPES[floats[0].str[1:]] if floats and v.dtype.kind != "f" else kind
        args = [self.operand(x, how, d) if how else literal(x, within) for x, how in operands]
        if v.op != "astype":
            args = [
                f"({within}){a}" if how and x.dtype.kind == "b" and v.op != "where" else a
                for a, (x, how) in zip(args, operands, strict=True)
            ]
        form = EXPRESSIONS[v.op]
        if v.op == "pow" and not operands[1][1]:
            form = POWERS.get(float(operands[1][0]), form)
        text = form.format(*args, T=within if v.op != "astype" else kind, f="f" if within == "float" else "")
        return f"const {kind} {self.names[v]} = {text};"


class Segment:
    """Kernels that follow each other, as one C function; called with a table of addresses."""

    def __init__(self, graph: Graph, groups: list[Group], number: int) -> None:
        self.name, self.groups = f"segment_{number}", groups
        self.table: dict[Value, int] = {}  # places in the table of addresses; 0 is the scratch memory
        self.scratch = graph.scratch_bytes
        self.rows: dict[Value, int] = {}
        text: list[str] = []
        for g in groups:
            end = graph.scratch_bytes

            def row_buffer(v: Value) -> str:
                if v not in self.rows:
                    nonlocal end
                    self.rows[v] = end
                    end += -(-v.dtype.itemsize * g.columns // ALIGN) * ALIGN  # noqa: B023
                return f"(char *)p[0] + {self.rows[v]}"

            kernel = Kernel(g, lambda v: self.address(v, graph), row_buffer)
            text += kernel.lines()
            self.scratch = max(self.scratch, end)
        self.source = "\n".join([f"void {self.name}(void **p) {{", *text, "}"])
        stored = {v for g in groups for v in g.stored}
        self.made = [v for v in self.table if v in stored]
        self.read = [v for v in self.table if v not in stored]

    def address(self, v: Value, graph: Graph) -> str:
        if v in graph.place:
            return f"(void *)((char *)p[0] + {graph.place[v]})"
        return f"p[{self.table.setdefault(v, len(self.table) + 1)}]"
