"""The tape: what was done, and the walk back over it.

Each operation leaves a Node: serial number, operation, and per input on the tape an edge (parent, rule,
values that the rule reads). An input is always older than what was made of it, so the nodes that reached a
result, newest first, are the tape to walk (Griewank and Walther, Evaluating Derivatives, 2008, section 3.2);
a leaf comes straight after its last use, so that its gradient is complete as early as can be.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Container, Sequence
from itertools import count
from typing import Any

from mlsys_lab._core.backend import Array
from mlsys_lab.autograd.errors import GraphError, ShapeError

serial = count(1).__next__


class Mode(threading.local):
    """What each thread does with the operations that it runs.

    `recording`: whether operations leave nodes. `observer`: None, or called after each operation with
    (primitive, arguments, result): the seam of capture, profiler and anomaly mode. `before_walk`: None, or
    called with each tape before it is walked.
    """

    recording: bool = True
    observer: Callable[..., None] | None = None
    before_walk: Callable[[list[Node]], None] | None = None


mode = Mode()


class Node:
    """A place on the tape: an operation that was applied, or a leaf that collects its gradient.

    `edges` holds (parent, rule, values): a parent's gradient is `rule.function(g, *values)`. A joint rule has
    one edge, whose parent is a tuple, and returns a tuple. None: this part of the tape was freed.
    """

    __slots__ = ("dtype", "edges", "grad", "hooks", "op", "ready", "serial", "shape")

    serial: int
    op: Any
    edges: Any
    shape: tuple[int, ...]
    dtype: Any
    hooks: list[Callable[[Any], Any]] | None
    grad: Any  # of a leaf: a Tensor or None
    ready: list[Callable[[], None]] | None

    def __init__(self, op: Any, edges: Sequence[Any], data: Array) -> None:
        self.serial = serial()
        self.op = op
        self.edges = edges
        self.shape = data.shape
        self.dtype = data.dtype
        self.hooks = None


# The table of differentiation: name -> Primitive. The files of primitives fill it, row by row.
table: dict[str, Any] = {}


def leaf(data: Array) -> Node:
    """The node of a tensor that collects a gradient; it has no operation."""
    node = Node(None, [], data)
    node.grad = node.ready = None
    return node


def tape_of(roots: Sequence[Node]) -> list[Node]:
    """The nodes that `roots` were made of, newest first, each leaf straight after its last use."""
    place: dict[Node, float] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in place:
            continue
        place[node] = number = node.serial
        if node.edges is None:
            raise GraphError(
                f"backward reached {node.op.name!r}, whose part of the tape an earlier backward has freed: "
                "pass retain_graph=True to that backward, or compute the result again"
            )
        for parents, _, _ in node.edges:
            if type(parents) is not tuple:
                if parents.op is not None:
                    stack.append(parents)
                    continue
                parents = (parents,)
            for one in parents:
                if one is not None and one.op is not None:
                    stack.append(one)
                elif one is not None:
                    place[one] = min(place.get(one, number), number - 0.5)
    return sorted(place, key=place.__getitem__, reverse=True)


def unbroadcast(grad: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient over the axes along which its input, of this shape, was repeated."""
    extra = len(grad.shape) - len(shape)
    axes = tuple(i for i, n in enumerate(grad.shape) if i < extra or (shape[i - extra] == 1 and n != 1))
    summed = grad.sum(axis=axes)
    if summed.size != math.prod(shape):
        raise ShapeError(f"a rule gave a gradient of shape {grad.shape} for an argument of shape {shape}")
    return summed.reshape(shape)


def walk(
    tape: list[Node],
    grads: dict[Node, Any],
    arrive: Callable[[Node, Any, bool], None],
    *,
    wanted: Container[Node] = (),
    tracked: bool = False,
    free: bool = True,
) -> None:
    """Pull gradients through the tape, newest node first. This loop is reverse-mode differentiation.

    Args:
        tape: from `tape_of`.
        grads: the gradient of each result's node, which the walk uses up.
        arrive: told (node, gradient, whether nobody else holds the array) of each leaf and `wanted` node.
        wanted: inner nodes whose gradient is asked for.
        tracked: work on tensors in place of arrays, so that the walk itself is recorded.
        free: let go of each node's saved values once they were used.
    """
    owned: set[Node] | None = None if tracked else set()
    for node in tape:
        if node not in grads:
            continue
        g = grads.pop(node)
        if node.hooks is not None:
            g = call_hooks(node, g)
        if node.op is None or node in wanted:
            arrive(node, g, owned is not None and node in owned)
        for parent, rule, values in node.edges:
            if tracked:
                values = node.op.tracked(node, values, rule)
            grad = rule.function(g, *values)
            if type(parent) is tuple or parent in grads or parent.op is None or unlike(grad, parent):
                accumulate(grads, owned, parent, grad, g, node.op.custom)
            else:
                grads[parent] = grad
        if free and node.op is not None:
            node.edges = None


def alike(x: Any, y: Any) -> bool:
    """Whether x is an array or a tensor of y's shape and dtype."""
    return getattr(x, "dtype", None) == y.dtype and x.shape == y.shape


def described(x: Any) -> str:
    """What came, in words."""
    return f"{type(x).__name__} {getattr(x, 'dtype', '')} {getattr(x, 'shape', '')}".strip()


def unlike(grad: Any, node: Node) -> bool:
    """Whether a gradient lacks the dtype or shape of its node."""
    return grad.dtype is not node.dtype or grad.shape != node.shape


def accumulate(
    grads: dict[Node, Any], owned: set[Node] | None, node: Any, part: Any, g: Any, custom: bool
) -> None:
    """Add one path's gradient to a node's, in place where the sum is the engine's own array.

    Args:
        grads: what was added so far.
        owned: the nodes whose gradient nobody else holds; None while tensors are walked.
        node: the parent, or the tuple of a joint rule's parents.
        part: its gradient, or theirs.
        g: the gradient that the rule was given, which it may have handed on.
        custom: the rule is a user's and may hand on anything.
    """
    if type(node) is tuple:
        for one, its in zip(node, part):  # noqa: B905
            if one is not None and its is not None:
                accumulate(grads, owned, one, its, g, custom)
        return
    if unlike(part, node):
        part = part if part.shape == node.shape else unbroadcast(part, node.shape)
        part = part if part.dtype == node.dtype else part.astype(node.dtype)
    if node not in grads:
        grads[node] = part
        if node.op is None and owned is not None and not custom and part is not g and part.base is None:
            owned.add(node)
    elif owned is not None and node in owned and node.shape:
        grads[node] += part
    else:
        grads[node] = grads[node] + part
        if owned is not None:
            owned.add(node)


def call_hooks(node: Node, g: Any) -> Any:
    """What a node's hooks make of its gradient; a hook that returns None leaves it."""
    for hook in node.hooks or ():
        changed_g = hook(g)
        g = g if changed_g is None else changed_g
        if not alike(g, node):
            wanted = f"{node.dtype} {node.shape}"
            raise GraphError(f"a hook returns a gradient of {wanted}, or None; got {described(g)}")
    return g
