"""A graph that can be called: steps over a list of slots, each a C function of many kernels or one call.

What is the same at every run (constants, attributes, addresses of scratch memory) is laid out once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from mlsys_lab._core import native
from mlsys_lab._core.backend import address as at
from mlsys_lab.compile.codegen import FLAGS, Segment, prelude
from mlsys_lab.compile.ir import Graph, Value, base, leaves, mapped, reads

Step = Callable[[list[Any], Any], None]


class Runner:
    """Runs a graph that went through all passes.

    Args:
        graph: with groups and places.
        compiled: lower the kernels to C; otherwise NumPy computes value by value.

    Attributes:
        source: the C text, empty for NumPy.

    Raises:
        NativeError: the C compiler failed, or there is none.
    """

    def __init__(self, graph: Graph, compiled: bool) -> None:
        self.graph, self.source = graph, ""
        self.template: list[Any] = []
        self.slots: dict[Any, int] = {}
        self.steps: list[Step] = []
        self.frames: list[Any] = []  # free ones: scratch memory and tables of addresses
        self.segments: list[Segment] = []
        for v in graph.inputs:
            self.slot(v)
        parts = self.parts(compiled)
        self.segments = [p for p in parts if isinstance(p, Segment)]
        functions: Any = None
        if self.segments:
            self.source = "\n".join([prelude(), *(s.source for s in self.segments)])
            functions = native.load(self.source, name="graph", flags=FLAGS)
        dead = self.last_uses(parts)
        for part, names in zip(parts, dead, strict=True):
            if isinstance(part, Segment):
                self.steps.append(self.kernel_step(part, functions, len(self.steps)))
            else:
                for v in part.values:
                    self.call_step(v)
            gone = [self.slots[v] for v in names if v in self.slots]
            if gone:
                self.steps.append(forgetting(gone))
        for v in graph.outputs:
            self.available(v)
        self.pick = [(self.slots[v], base(v).op == "constant") for v in graph.outputs]

    def parts(self, compiled: bool) -> list[Any]:
        """Runs of kernels as segments, and calls."""
        assert self.graph.groups is not None
        parts: list[Any] = []
        for kernels, run in groupby(self.graph.groups, lambda g: compiled and g.rows > 0):
            groups = list(run)
            parts += [Segment(self.graph, groups, len(parts))] if kernels else groups
        return parts

    def last_uses(self, parts: Sequence[Any]) -> list[list[Value]]:
        """Per part the values that nobody reads after it."""
        outputs = {base(v) for v in self.graph.outputs}
        seen: set[Value] = set()
        dead: list[list[Value]] = []
        for part in reversed(parts):
            groups = part.groups if isinstance(part, Segment) else [part]
            touched = {base(a) for g in groups for v in g.values for a in (v, *reads(v))}
            dead.append([v for v in touched - seen - outputs if v.op not in ("input", "constant")])
            seen |= touched
        return dead[::-1]

    def slot(self, key: Any, content: Any = None) -> int:
        if key not in self.slots:
            self.slots[key] = len(self.template)
            self.template.append(content)
        return self.slots[key]

    def available(self, v: Value) -> int:
        """The slot of a value; a reshape of it becomes a step of its own."""
        if v.op == "constant":
            return self.slot(v, np.ascontiguousarray(v.data).reshape(v.shape))
        if v.op != "reshape" or v in self.slots:
            return self.slot(v)
        source, out, shape = self.available(base(v)), self.slot(v), v.shape

        def step(env: list[Any], frame: Any) -> None:
            env[out] = env[source].reshape(shape)

        self.steps.append(step)
        return out

    def call_step(self, v: Value) -> None:
        """One operation by its NumPy forward."""
        forward, dtype, out = v.forward, v.dtype, self.slot(v)
        assert forward is not None
        for x in reads(v):
            self.available(x)
        positions = []
        for i, x in enumerate(v.args):
            nested = not isinstance(x, Value) and any(isinstance(a, Value) for a in leaves(x))
            if nested:
                positions.append(self.gathered(x, (v, i)))
            else:
                positions.append(self.slots[x] if isinstance(x, Value) else self.slot((v, i), x))
        if len(positions) == 1:
            positions.append(self.slot(None))
        first, single = itemgetter(*positions), len(v.args) == 1

        def step(env: list[Any], frame: Any) -> None:
            arguments = first(env)
            value = forward(arguments[0]) if single else forward(*arguments)
            if dtype is not None:
                if type(value) is not np.ndarray:
                    value = np.asarray(value)
                if value.dtype != dtype:
                    value = value.astype(dtype)
            env[out] = value

        self.steps.append(step)

    def gathered(self, tree: Any, key: Any) -> int:
        """A slot for a nested argument, put together by a step of its own."""
        out, slots = self.slot(key), self.slots

        def step(env: list[Any], frame: Any) -> None:
            env[out] = mapped(lambda x: env[slots[x]] if isinstance(x, Value) else x, tree)

        self.steps.append(step)
        return out

    def kernel_step(self, segment: Segment, library: Any, number: int) -> Step:
        """One C function; its table of addresses lies in the frame."""
        function = getattr(library, segment.name)
        function.argtypes, function.restype = (ctypes.c_void_p,), None
        read = [(segment.table[v], self.available(v)) for v in segment.read if v.op != "constant"]
        for v in segment.read:
            self.available(v)
        made = [(segment.table[v], self.slot(v), v.shape, v.dtype) for v in segment.made]
        mine, empty = self.segments.index(segment), np.empty

        def step(env: list[Any], frame: Any) -> None:
            table, address = frame[mine]
            hold = []  # so that copies outlive the call
            for i, place in read:
                x = env[place]
                if not x.flags.c_contiguous:
                    x = np.ascontiguousarray(x)
                    hold.append(x)
                table[i] = at(x)
            for i, place, shape, dtype in made:
                env[place] = x = empty(shape, dtype)
                table[i] = at(x)
            function(address)

        return step

    def frame(self) -> list[Any]:
        """Scratch memory, and per segment a table with the addresses that stay."""
        size = max((s.scratch for s in self.segments), default=0)
        memory = np.empty(size + 64, np.uint8)
        tables: list[Any] = []
        for s in self.segments:
            table = (ctypes.c_void_p * (len(s.table) + 1))()
            table[0] = at(memory) + -at(memory) % 64
            for v, i in s.table.items():
                if v.op == "constant":
                    table[i] = at(self.template[self.slots[v]])
            tables.append((table, ctypes.addressof(table)))
        return [*tables, memory]

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """Run once; the outputs are new arrays, or the inputs' own memory where eager would give views."""
        try:
            frame = self.frames.pop()  # two threads that run at once have a frame each
        except IndexError:
            frame = self.frame()
        env = self.template.copy()
        env[: len(inputs)] = inputs
        for step in self.steps:
            step(env, frame)
        self.frames.append(frame)
        return [env[i].copy() if constant else env[i] for i, constant in self.pick]


def forgetting(slots: list[int]) -> Step:
    """A step that lets go of values."""

    def step(env: list[Any], frame: Any) -> None:
        for i in slots:
            env[i] = None

    return step
