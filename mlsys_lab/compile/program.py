"""One captured function for one set of shapes: its graphs through the passes, and their place on the tape.

Where a result needs a gradient, backward is captured with it and the joint graph is cut in two: what the
results need runs forward, the rest when gradients arrive; what both read is kept in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlsys_lab._core import native
from mlsys_lab.autograd import Tensor, enable_grad, grad, reshape
from mlsys_lab.autograd.primitive import Primitive, Rule
from mlsys_lab.autograd.shaping import place
from mlsys_lab.autograd.tape import Node, call_hooks, mode
from mlsys_lab.autograd.tensor import collect
from mlsys_lab.compile.capture import CaptureError, Proxy, Traced, Tracer, slot
from mlsys_lab.compile.fuse import fuse, plan
from mlsys_lab.compile.ir import Graph, Value, base, leaves, mapped, reads
from mlsys_lab.compile.passes import cse, dce, fold
from mlsys_lab.compile.run import Runner

PASSES: dict[str, Callable[[Graph], Graph]] = {f.__name__: f for f in (fold, cse, dce, fuse, plan)}
CLEANING = ("fold", "cse", "dce")


class Capture:
    """What one run of the function left behind: the graph, and what to do with its outputs."""

    def __init__(self, fn: Callable[..., Any], tree: Any, outside: Sequence[Tensor] = ()) -> None:
        tracer = self.tracer = Tracer()
        given = [x for x in leaves(tree) if isinstance(x, (Tensor, np.ndarray))]
        traced: dict[int, Traced] = {}
        for i, x in enumerate(given):
            if id(x) not in traced:
                on_tape = isinstance(x, Tensor) and x.requires_grad
                data = slot.__get__(x) if isinstance(x, Tensor) else x
                traced[id(x)] = tracer.input(data, f"argument {i}", on_tape)
        self.arguments = list(traced.values())
        originals = {id(x): x for x in given}
        self.given = [originals[key] for key in traced]
        args, kwargs = mapped(lambda x: traced.get(id(x), x), tree)
        try:
            for x in outside:  # known from an earlier capture, so that a reset of their .grad is seen
                tracer.lay_aside(x)
            with tracer:
                self.result = fn(*args, **kwargs)
                if any(x is y for x, _ in tracer.sources for y in self.given):
                    raise CaptureError("an argument is also closed over: use it in one way")
                self.outputs = [x for x in leaves(self.result) if isinstance(x, Tensor)]
                values = [tracer.value_of(x) for x in self.outputs]
                self.collected(values)
                self.differentiated(values)
        finally:
            tracer.restore()
        self.graph = tracer.graph(values)

    def collected(self, values: list[Value]) -> None:
        """What the function did to `.grad`: (number of the input, place in the outputs or None, added)."""
        tracer = self.tracer
        self.inputs = [*self.arguments, *(x for x, _ in tracer.sources)]
        self.graded: list[tuple[int, int | None, bool]] = []
        self.shown: dict[int, int] = {}  # results that are the `.grad` of an input
        results = {id(x): i for i, x in enumerate(self.outputs)}
        for i, x in enumerate(self.inputs):
            g = x.grad
            if g is None and x.requires_grad:
                self.graded.append((i, None, False))
            elif g is not None:
                if id(g) in results:
                    self.shown[results[id(g)]] = i
                value = tracer.value_of(g)
                if value.op != "gradient before":
                    self.graded.append((i, len(values), id(g) in tracer.earlier))
                    values.append(value)
        if any(id(x) in tracer.earlier and i not in self.shown for i, x in enumerate(self.outputs)):
            raise CaptureError("the function returns .grad of before: reset it first")

    def differentiated(self, values: list[Value]) -> None:
        """The gradients of the results by what they were made of, given those of the results."""
        self.forward_count = len(values)
        open_ = {id(x): x for x in self.outputs if not x.is_leaf and x._node().edges is not None}
        self.on_tape = [i for i, x in enumerate(self.outputs) if open_.pop(id(x), None) is not None]
        self.sought = [i for i, x in enumerate(self.inputs) if x.requires_grad] if self.on_tape else []
        if not self.sought:
            self.on_tape = []
            return
        outs = [self.outputs[i] for i in self.on_tape]
        ups = [self.tracer.input(np.ones(x.shape, x.dtype), f"gradient {i}") for i, x in enumerate(outs)]
        self.ups = self.tracer.inputs[-len(ups) :]
        grads = grad(outs, [self.inputs[i] for i in self.sought], ups, allow_unused=True)
        values += [self.tracer.value_of(g) for g in grads]


def captured(fn: Callable[..., Any], tree: Any) -> Capture:
    """Capture twice and hold the two against each other, so that nothing random is frozen.

    Raises:
        CaptureError: the function's steps differ, or cannot be captured.
    """
    first = Capture(fn, tree)
    second = Capture(fn, tree, [x for x, _ in first.tracer.sources])
    lasting = {id(x) for x, _ in first.tracer.sources} & {id(x) for x, _ in second.tracer.sources}
    constants: list[list[Any]] = []
    for one in (first, second):
        for x, value in one.tracer.sources:
            if id(x) not in lasting:  # made inside the function: a constant
                value.op, value.data = "constant", x.data
        one.graph.inputs = [v for v in one.graph.inputs if v.op == "input"]
        constants.append([v.data for v in one.graph.values if v.op == "constant"])
    same = str(first.graph) == str(second.graph) and all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(*constants, strict=True)
    )
    if not same:
        raise CaptureError("two runs took different steps (random numbers, or state that changes)")
    return second


class Program:
    """A captured function, lowered, for arguments like those that it was captured with.

    Attributes:
        stages: per graph ("forward", or "forward" and "backward") the graph after each pass.
        fallback: why NumPy runs in place of C, or empty.
    """

    def __init__(self, fn: Callable[..., Any], tree: Any) -> None:
        self.fn = fn
        c = self.capture = captured(fn, tree)
        self.outside = [x for x, v in c.tracer.sources if v.op == "input"]
        self.guard = self.state()
        self.primitives = list(c.tracer.primitives.items())
        self.fallback = ""
        self.stages: dict[str, dict[str, Graph]] = {"forward": {"capture": c.graph}}
        clean = c.graph
        for name in CLEANING:
            clean = PASSES[name](clean)
            self.stages["forward"][name] = clean
        self.kept: list[Value] = []
        forward, backward = self.cut(clean) if c.on_tape else (clean, None)
        self.forward = self.lowered("forward", forward)
        self.backward = self.lowered("backward", backward) if backward is not None else None
        self.results = self.recipe(forward)
        self.op = Proxy(Primitive(getattr(fn, "__name__", "compiled"), lambda: None, custom=True))
        self.simple = not (c.on_tape or c.graded or c.shown)

    def state(self) -> tuple[Any, ...]:
        """What has to be as it was of the tensors that the function closes over."""
        return tuple([(x.data.shape, x.data.dtype, x.node is not None) for x in self.outside])

    def holds(self) -> bool:
        """Whether the graph still says what the function would do."""
        return self.state() == self.guard and all(op.joint is rule for op, rule in self.primitives)

    def cut(self, joint: Graph) -> tuple[Graph, Graph]:
        """Forward and backward of a joint graph; `kept` is what backward reads of forward."""
        n = self.capture.forward_count
        results, grads = joint.outputs[:n], joint.outputs[n:]
        early = set(results)
        for v in reversed(joint.values):
            if v in early:
                early.update(reads(v))
        free = {v for v in joint.values if v.op in ("input", "constant")}
        late = {v for v in joint.values if v not in early and v not in free}
        used = {x for v in late for x in reads(v)} | set(grads)
        self.kept = [v for v in joint.values if v in used and v in early and v not in free]
        inputs = [v for v in joint.inputs if v not in self.capture.ups]
        first = [v for v in joint.values if v in early or v in inputs]
        forward = Graph(inputs, first, [*results, *self.kept])
        given = [*self.kept, *joint.inputs]
        new = {v: v for v in free}
        for i, v in enumerate(self.kept):
            new[v] = Value("input", (), v.shape, v.dtype, data=f"kept {i}")
        order = [new[v] for v in given]
        values = [*order, *(v for v in joint.values if v.op == "constant")]
        for v in joint.values:
            if v in late:
                new[v] = replace(v, args=mapped(lambda x: new[x] if isinstance(x, Value) else x, v.args))
                values.append(new[v])
        return forward, dce(Graph(order, values, [new[g] for g in grads]))

    def lowered(self, name: str, graph: Graph) -> Runner:
        """Fused, planned and lowered to C, or to NumPy where C does not work."""
        stages = self.stages.setdefault(name, {"capture": graph})
        for one in ("fuse", "plan"):
            stages[one] = graph = PASSES[one](graph)
        if native.compiler() is None:
            self.fallback = "no C compiler"
        elif not self.fallback:
            try:
                return Runner(graph, True)
            except native.NativeError as error:
                self.fallback = str(error)
        return Runner(graph, False)

    def recipe(self, graph: Graph) -> list[Any]:
        """Per result: the number of the argument that it is, or whether it is a tensor.

        Of arrays alone eager makes arrays.
        """
        c = self.capture
        argument = {id(x): i for i, x in enumerate(c.arguments)}
        sources = dict(zip(graph.inputs, [*c.given, *self.outside], strict=True))
        tensors = {v for v, x in sources.items() if isinstance(x, Tensor)}
        arrays = set(sources) - tensors
        for v in graph.values:
            tensors.update([v] if tensors.intersection(reads(v)) else [])
            arrays.update([v] if arrays.intersection(reads(v)) else [])
        outs = zip(c.outputs, graph.outputs, strict=False)
        self.place = {id(x): i for i, x in enumerate(c.outputs)}
        values = graph.outputs
        self.owned = [values.count(v) == 1 and base(v).op != "input" for v in values]
        return [argument.get(id(x), v in tensors or v not in arrays) for x, v in outs]

    def __call__(self, given: Sequence[Any], tree: Any) -> Any:
        """Run on arguments, tensors and arrays, like those of the capture.

        Args:
            given: the distinct tensors and arrays among the arguments.
            tree: all arguments, for a backward that is itself differentiated.
        """
        c = self.capture
        tensors = [*given, *self.outside]
        arrays = [x.data if isinstance(x, Tensor) else x for x in tensors]
        out = self.forward(arrays)
        results: list[Any] = [
            (Tensor.made(a, None) if how else a) if how is True or how is False else given[how]
            for a, how in zip(out, self.results, strict=False)
        ]
        if not self.simple:
            for i, k, added in c.graded:
                if not added:
                    tensors[i].grad = None
                if k is not None:
                    deliver(tensors[i], out[k], self.owned[k])
            for k, i in c.shown.items():
                results[k] = tensors[i].grad
            if c.on_tape and mode.recording:
                self.record(results, tensors, [*out[c.forward_count :], *arrays], tree)
        if c.outputs and c.result is c.outputs[0]:
            return results[0]
        return mapped(lambda x: results[self.place[id(x)]] if id(x) in self.place else x, c.result)

    def record(self, results: list[Any], tensors: list[Any], saved: list[Any], tree: Any) -> None:
        """Put the results on the tape: one node that knows all gradients, and each result's piece of it."""
        c = self.capture
        outs = [results[i] for i in c.on_tape]
        sizes = [x.size for x in outs]
        ends = np.cumsum(sizes).tolist()
        backward = self.backward
        assert backward is not None

        def rule(g: Any, *ignored: Any) -> tuple[Any, ...]:
            pieces = [
                reshape(g[end - n : end], x.shape).astype(x.dtype)
                for x, n, end in zip(outs, sizes, ends, strict=True)
            ]
            if isinstance(g, Tensor):
                return self.again(tensors, pieces, tree)
            return tuple(backward([*saved, *pieces]))

        parents = tuple(tensors[i].node for i in c.sought)
        flat = np.empty(sum(sizes), np.result_type(*[x.dtype for x in outs]))
        arrays = tuple(x for x in saved if isinstance(x, np.ndarray))
        joint = Node(self.op, [(parents, Rule(rule, None, ()), arrays)], flat)
        for x, n, end in zip(outs, sizes, ends, strict=True):
            part = slice(end - n, end)

            def piece(g: Any, part: slice = part) -> Any:
                return place(reshape(g, (-1,)).astype(flat.dtype), flat.shape, part)

            x.node = Node(self.op, [(joint, Rule(piece, 0, ()), ())], x.data)

    def again(self, tensors: list[Any], ups: list[Any], tree: Any) -> tuple[Any, ...]:
        """Gradients that can be differentiated: the function itself runs once more."""
        args, kwargs = tree
        with enable_grad():
            outputs = [x for x in leaves(self.fn(*args, **kwargs)) if isinstance(x, Tensor)]
            outs = [outputs[i] for i in self.capture.on_tape]
            return grad(
                outs, [tensors[i] for i in self.capture.sought], ups, create_graph=True, allow_unused=True
            )


def deliver(x: Tensor, g: Any, owned: bool) -> None:
    """Add a gradient to `.grad`, as a backward inside the function would have."""
    if not x.is_leaf:
        x.backward(Tensor(g))
        return
    node = x._node()
    g = call_hooks(node, g) if node.hooks else g
    collect(node, g, owned and g.base is None)
