"""Backward, step by step: a small function runs, and what the tape does is written down and drawn.

Values are heard at `observe`, gradients from rules that tell what they return; the walk is the engine's own
and lets saved values go as it does in training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlsys_lab._core.backend import extent
from mlsys_lab.autograd.tape import Node, accumulate, tape_of
from mlsys_lab.autograd.tensor import Tensor, pull
from mlsys_lab.autograd.watch import observe
from mlsys_lab.viz.graph import layout, parents
from mlsys_lab.viz.profile import arrays
from mlsys_lab.viz.stepper import FONT, LETTER, LINE, Shape, Step, Stepper

MOST = 6  # numbers of an array that are written out
GAP, DOWN = 26, 18  # pixels between boxes, and between layers: all of them fit a projector


@dataclass
class Visit:
    """Backward at one node: its gradient, and what each parent then has."""

    node: Node
    grad: Any
    held: int = 0  # bytes that the tape still holds once the node's rules have run
    parts: list[tuple[Node, Any, Any]] = field(default_factory=list)  # parent, its part, its sum so far


@dataclass
class Run:
    """What was heard: nodes oldest first, their values, the bytes each holds, the visits of backward."""

    nodes: list[Node]
    made_of: dict[Node, list[Node]]
    place: Any  # from `layout`: backward lets the edges go
    values: dict[Node, Any]
    kept: dict[Node, int]
    memory: dict[Node, set[int]]  # which memory each node keeps, as numbers
    held: list[int]  # bytes that the tape holds once each node was made
    visits: list[Visit]


class Told:
    """A rule on an edge of the tape that tells what it returns."""

    def __init__(self, rule: Any, tell: Callable[[Any], None]) -> None:
        self.rule, self.tell = rule, tell
        self.argument, self.positions = rule.argument, rule.positions

    def function(self, g: Any, *values: Any) -> Any:
        grad = self.rule.function(g, *values)
        self.tell(grad)
        return grad


def listen(function: Callable[..., Tensor], leaves: dict[str, Tensor]) -> Run:
    """Run a function forward and backward and write down what happens."""
    values = {t._node(): t.data.copy() for t in leaves.values()}
    with observe(lambda op, arguments, result: values.update({result.node: result.data.copy()})):
        result = function(**leaves)
    tape = tape_of([result._node()])
    nodes = sorted(tape, key=lambda n: n.serial)
    own = {id(extent(t.data)[0]) for t in leaves.values()}
    kept = {n: held([n], own) for n in nodes}
    memory = {n: set(saved([n], own)) for n in nodes}
    made_of, place = {n: parents(n) for n in nodes}, layout(nodes)
    rising = [held(nodes[: i + 1], own) for i in range(len(nodes))]
    visits: list[Visit] = []
    sums: dict[Node, Any] = {}

    def tell(parent: Any, custom: bool, grad: Any) -> None:
        for one, part in zip(parent, grad, strict=True) if isinstance(parent, tuple) else [(parent, grad)]:
            if one is not None and part is not None:
                accumulate(sums, None, one, part, visits[-1].grad, custom)
                visits[-1].parts.append((one, part.copy(), sums[one].copy()))

    def arrive(node: Node, g: Any, _: bool) -> None:
        if visits:
            visits[-1].held = held(tape, own)
        visits.append(Visit(node, g.copy()))

    def told(parent: Any, rule: Any, custom: bool) -> Told:
        return Told(rule, lambda grad: tell(parent, custom, grad))

    for node in tape:
        node.edges = [
            (parent, told(parent, rule, node.op.custom), saved) for parent, rule, saved in node.edges
        ]
    pull([result], [None], arrive, wanted=tape)
    return Run(nodes, made_of, place, values, kept, memory, rising, visits)


def held(nodes: Iterable[Node], own: set[int]) -> int:
    """Bytes that nodes saved for backward, each memory once, without that of the leaves."""
    return sum(saved(nodes, own).values())


def saved(nodes: Iterable[Node], own: set[int]) -> dict[int, int]:
    """The memory that nodes saved for backward, without that of the leaves: its id and its bytes."""
    found = (extent(a)[0] for n in nodes for edge in n.edges or () for a in arrays(edge[2]))
    return {id(a): a.nbytes for a in found if id(a) not in own}


def short(array: Any) -> str:
    """The numbers of a small array to three digits; of a larger one their root mean square."""
    if array.size > MOST:
        return f"rms {np.sqrt(np.mean(np.square(array.astype(float)))):.3g}"
    return np.array2string(
        np.asarray(array), separator=", ", formatter={"float_kind": lambda v: f"{v:.3g}"}
    ).replace("\n", "")


def backward_steps(function: Callable[..., Tensor], **leaves: Any) -> Stepper:
    """Run `function(**leaves)` forward and backward; each operation is a step.

    Args:
        function: takes tensors by name and returns one number, a tensor; up to about 15 operations.
        leaves: arrays; each becomes a tensor that collects a gradient.

    Returns:
        A stepper with values, gradients, shapes and bytes of each node, and the bytes that the tape holds.

    Example:
        >>> viz.backward_steps(lambda x: (x * x).sum(), x=[1.0, 2.0]).save("square.html")  # doctest: +SKIP
    """
    tensors = {name: Tensor(value, requires_grad=True) for name, value in leaves.items()}
    run = listen(function, tensors)
    named = {t.node: name for name, t in tensors.items()}
    number = {node: i for i, node in enumerate(run.nodes, start=1)}
    head = {}
    for n in run.nodes:
        called = named.get(n, "leaf") if n.op is None else n.op.name
        made_of = ", ".join(f"#{number[p]}" for p in run.made_of[n])
        head[n] = f"#{number[n]} {called}" + (f"({made_of})" if made_of else "")
    return Drawing(run, number, head).stepper()


class Drawing:
    """A run as shapes and steps; `grad` is what each node's box says of its gradient now."""

    def __init__(self, run: Run, number: dict[Node, int], head: dict[Node, str]) -> None:
        self.run, self.number, self.head = run, number, head
        self.value: dict[Node, str] = {n: short(run.values[n]) for n in run.nodes if n.op is None}
        self.grad: dict[Node, str] = {}
        self.keeps: dict[Node, int] = dict.fromkeys(run.nodes, 0)
        self.before: dict[str, str] = {}  # shapes that the last step coloured, and their tone at rest

    def lines(self, n: Node) -> tuple[str, ...]:
        size = int(np.prod(n.shape)) * n.dtype.itemsize
        keeps = f", keeps {self.keeps[n]} B" if self.keeps[n] else ""
        return (
            self.head[n],
            f"{tuple(n.shape)} {n.dtype}, {size} B{keeps}",
            f"value {self.value.get(n, '-')}",
            f"grad {self.grad.get(n, '-')}",
        )

    def box(self, n: Node, tone: str) -> dict[str, Any]:
        return {"lines": self.lines(n), "tone": tone}

    def tape(self, bytes_: int) -> dict[str, Any]:
        most = max(self.run.held) or 1
        return {"lines": (f"the tape holds {bytes_} B for backward",), "level": bytes_ / most}

    def stepper(self) -> Stepper:
        rest = {str(self.number[n]): self.box(n, "plain" if n.op is None else "idle") for n in self.run.nodes}
        rest["tape"] = self.tape(0)
        steps = [Step("The leaves are given; no operation has run."), *self.forward(), *self.backward()]
        letters = max(len(t) for s in steps for c in s.changes.values() for t in c.get("lines", ()))
        shapes, size = self.shapes(rest, letters * LETTER + 16)
        intro = (
            "Blue: the operation at work. Orange: its values are kept for backward. Green: a gradient is "
            "handed on. Dashed: not yet run. Numbers to three digits. The tape's bytes leave out the arrays "
            "of the leaves, which are there anyway."
        )
        title = "How backward walks the tape"
        return Stepper(title, intro, shapes, [self.colour(s) for s in steps], size)

    def forward(self) -> list[Step]:
        steps = []
        for n, held_ in zip(self.run.nodes, self.run.held, strict=True):
            if n.op is None:
                continue
            self.value[n], self.keeps[n] = short(self.run.values[n]), self.run.kept[n]
            keeps = f"keeps {self.keeps[n]} B" if self.keeps[n] else "keeps nothing of its own"
            before = [m for m in self.sharing(n) if m.serial < n.serial]
            also = f": of memory that {self.numbers(before)} keeps too" if before else ""
            if before and all(self.run.memory[n] == self.run.memory[m] for m in before):
                also = f": the same {self.keeps[n]} B as {self.numbers(before)}"
            say = f"Forward: {self.head[n]} is computed. It {keeps} for backward{also}."
            steps.append(Step(say, {str(self.number[n]): self.box(n, "compute"), "tape": self.tape(held_)}))
        return steps

    def backward(self) -> list[Step]:
        steps, before = [], self.run.held[-1]
        for i, visit in enumerate(self.run.visits):
            n = visit.node
            self.grad[n] = short(visit.grad)
            start = "Backward starts with gradient 1 at" if i == 0 else "Backward:"
            if n.op is None:
                changes = {str(self.number[n]): self.box(n, "communication")}
                say = f"Backward: {self.head[n]} is a leaf, and all that used it have handed on their part: "
                steps.append(Step(f"{say}its gradient is complete.", changes))
                continue
            freed = f" The {self.keeps[n]} B that it kept are let go." if self.keeps[n] else ""
            if freed and visit.held == before:
                ahead = {v.node for v in self.run.visits[i + 1 :]}
                later = [m for m in self.sharing(n) if m in ahead]
                still = f"{self.numbers(later) or 'another node'} still holds them"
                freed = f" It lets the {self.keeps[n]} B go that it kept; {still}."
            before = visit.held
            self.keeps[n] = 0
            changes = {str(self.number[n]): self.box(n, "compute"), "tape": self.tape(visit.held)}
            said = []
            for parent, part, so_far in visit.parts:
                to = f"{short(part)} to {self.head[parent]}"
                to += ", summed to its shape" if part.shape != parent.shape else ""
                said.append(to + (", added to what it had" if parent in self.grad else ""))
                self.grad[parent] = f"so far {short(so_far)}"
                changes[str(self.number[parent])] = self.box(parent, "communication")
                changes[f"{self.number[parent]}-{self.number[n]}"] = {"tone": "communication"}
            say = f"{start} {self.head[n]}: its gradient is complete, its rule hands {'; '.join(said)}."
            steps.append(Step(say + freed, changes))
        return steps

    def sharing(self, n: Node) -> list[Node]:
        """The other nodes that keep some of the same memory."""
        return [m for m in self.run.nodes if m is not n and self.run.memory[m] & self.run.memory[n]]

    def numbers(self, nodes: list[Node]) -> str:
        return " and ".join(f"#{self.number[n]}" for n in nodes)

    def colour(self, step: Step) -> Step:
        """A step that also takes back the colours of the one before."""
        back: dict[str, dict[str, Any]] = {k: {"tone": t} for k, t in self.before.items()}
        self.before = {}
        for key, change in step.changes.items():
            if "tone" in change:
                keeps = any(" B, keeps " in line for line in change.get("lines", ()))
                self.before[key] = "memory" if keeps else "plain"
        return Step(step.say, {**back, **step.changes})

    def shapes(self, rest: dict[str, dict[str, Any]], w: int) -> tuple[dict[str, Shape], tuple[float, float]]:
        place, bends = self.run.place
        h = 4 * LINE + FONT - 3

        def at(point: tuple[float, float]) -> tuple[float, float]:
            return GAP + point[0] * (w + GAP), 3 * DOWN + point[1] * (h + DOWN)

        found = {}
        for n in self.run.nodes:
            x, y = at(place[n])
            found[str(self.number[n])] = Shape(
                self.head[n].split("(")[0], x, y, w, h, **rest[str(self.number[n])]
            )
        for (parent, child), via in bends.items():
            (x1, y1), (x2, y2) = at(place[parent]), at(place[child])
            through = [p for b in via for x, y in [at(b)] for p in ((x + w / 2, y), (x + w / 2, y + h))]
            path = ((x1 + w / 2, y1 + h), *through, (x2 + w / 2, y2))
            found[f"{self.number[parent]}-{self.number[child]}"] = Shape("", path=path)
        corners = [(s.x + s.w, s.y + s.h) for s in found.values()]
        wide, high = max(c[0] for c in corners) + GAP, max(c[1] for c in corners) + DOWN / 3
        found["tape"] = Shape("tape", GAP, DOWN / 3, wide - 2 * GAP, 2 * LINE, tone="memory", **rest["tape"])
        return found, (wide, high)
