"""Functions of functions: gradients, Jacobians, products with the Hessian, checkpoints, and recording
switched off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mlsys_lab.autograd.creation import zeros_like
from mlsys_lab.autograd.errors import GraphError
from mlsys_lab.autograd.primitive import Primitive, Rule
from mlsys_lab.autograd.shaping import concat
from mlsys_lab.autograd.tape import Node, serial, tape_of
from mlsys_lab.autograd.tensor import Recording, Tensor, pull


def no_grad() -> Recording:
    """A context in which this thread records nothing."""
    return Recording(False)


def enable_grad() -> Recording:
    """A context in which this thread records again, inside a `no_grad`."""
    return Recording(True)


def tensors(given: Any, who: str) -> tuple[Tensor, ...]:
    """One tensor or several as a tuple."""
    several = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    for x in several:
        if not isinstance(x, Tensor):
            raise TypeError(f"{who} expects tensors, got {type(x).__name__}: wrap it in ag.Tensor")
    return several


def grad(
    outputs: Tensor | Sequence[Tensor], inputs: Tensor | Sequence[Tensor], gradients: Any = None, *,
    create_graph: bool = False, retain_graph: bool | None = None, allow_unused: bool = False,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Derivatives of outputs, summed, by each input; `.grad` of no tensor changes.

    Args:
        outputs: a tensor or several, one number each, or of any shape with `gradients`.
        inputs: a tensor or several on the tape.
        gradients: per output its upstream gradient, or None.
        create_graph: record the walk, so that the results can be differentiated.
        retain_graph: keep saved values for another walk; as create_graph unless given.
        allow_unused: zeros for an input that the outputs do not depend on, in place of an error.

    Returns:
        One tensor per input, of its shape and dtype.
    """
    outputs, inputs = tensors(outputs, "ag.grad"), tensors(inputs, "ag.grad")
    gradients = gradients if isinstance(gradients, (tuple, list)) else (gradients,) * len(outputs)
    if len(gradients) != len(outputs):
        raise GraphError(f"ag.grad expects a gradient per output, {len(outputs)}, got {len(gradients)}")
    found: dict[Node, Any] = {}
    nodes = [x._node() for x in inputs]

    def arrive(node: Node, g: Any, owned: bool) -> None:
        if node in nodes:
            found[node] = g

    live = [(y, g) for y, g in zip(outputs, gradients, strict=True) if y.requires_grad or not allow_unused]
    keep = create_graph if retain_graph is None else retain_graph
    pull(
        *([y for y, _ in live], [g for _, g in live], arrive),
        wanted=nodes,
        retain_graph=keep,
        create_graph=create_graph,
    )
    if len(found) < len(set(nodes)) and not allow_unused:
        missing = [i for i, node in enumerate(nodes) if node not in found]
        raise GraphError(
            f"the outputs do not depend on inputs {missing}: leave them out, or pass allow_unused=True"
        )
    results = (found.get(node) for node in nodes)
    return tuple(
        zeros_like(x) if g is None else g if isinstance(g, Tensor) else Tensor(g)
        for x, g in zip(inputs, results, strict=True)
    )


def jacobian(fn: Callable[[Tensor], Tensor], x: Tensor, *, create_graph: bool = False) -> Tensor:
    """Derivative of each element of fn(x) by each element of x, one walk per element of the result.

    Returns:
        Shape of fn(x), then shape of x.
    """
    x = x if create_graph and x.requires_grad else Tensor(x, requires_grad=True)
    y = fn(x)
    rows = []
    for i in range(y.size):
        unit = np.zeros_like(y.data)
        unit.reshape(-1)[i] = 1
        (g,) = grad(y, x, unit, create_graph=create_graph, retain_graph=True, allow_unused=True)
        rows.append(g.reshape(1, *x.shape))
    if not rows:
        return Tensor(np.zeros((*y.shape, *x.shape), dtype=x.dtype))
    return concat(tuple(rows), 0).reshape(*y.shape, *x.shape)


def hessian_vector_product(fn: Callable[[Tensor], Tensor], x: Tensor, v: Any) -> Tensor:
    """The Hessian of fn, which gives one number, at x, times v of x's shape (Pearlmutter 1994): two walks."""
    x = Tensor(x, requires_grad=True)
    (g,) = grad(fn(x), x, create_graph=True)
    if not g.requires_grad:
        return zeros_like(x)
    return grad(g, x, v, allow_unused=True)[0]


def checkpoint(
    fn: Callable[..., Tensor], *args: Any, generators: Sequence[np.random.Generator] = ()
) -> Tensor:
    """fn(*args) that keeps only its arguments and computes the inside again in backward (Chen et al. 2016).

    Args:
        fn: makes one tensor of its arguments; parameters that it closes over receive their gradients too.
        args: tensors and anything else.
        generators: random generators that fn draws from; they are set back for the second run.
    """
    states = [r.bit_generator.state for r in generators]
    born = serial()

    def run(values: Sequence[Any]) -> tuple[Tensor, list[Node | None]]:
        inner = [
            Tensor(v, requires_grad=x.requires_grad) if isinstance(x, Tensor) else v
            for x, v in zip(args, values, strict=True)
        ]
        return fn(*inner), [x.node if isinstance(x, Tensor) else None for x in inner]

    def again(g: Any, *values: Any) -> tuple[Any, ...]:
        if isinstance(g, Tensor):
            raise GraphError(
                "a checkpoint is differentiated once: call the function itself where create_graph is set"
            )
        later = [r.bit_generator.state for r in generators]
        set_states(states)
        with enable_grad():
            out, nodes = run(values)
        set_states(later)
        found: dict[Node, Any] = {}
        pull([out], [g], lambda node, part, owned: found.update({node: part}))
        return tuple(None if n is None else found.get(n) for n in [*nodes, *outside])

    def set_states(given: list[Any]) -> None:
        for r, state in zip(generators, given, strict=True):
            r.bit_generator.state = state

    values = tuple(x.data if isinstance(x, Tensor) else x for x in args)
    result, nodes = run(values)
    if not isinstance(result, Tensor):
        raise TypeError(
            f"a checkpointed function returns one tensor, got {type(result).__name__}: stack them"
        )
    if result.node is None:
        return result
    reached = tape_of([result.node])
    if any(n.op is not None and n.serial < born for n in reached):
        raise GraphError(
            "the checkpointed function closes over a result of other operations: pass it as an argument"
        )
    outside: list[Node | None] = [n for n in reached if n.op is None and n not in nodes]
    op = Primitive(f"checkpoint of {getattr(fn, '__name__', 'a function')}", lambda: None, custom=True)
    parents = tuple([x.node if isinstance(x, Tensor) else None for x in args] + outside)
    return Tensor.made(
        result.data, Node(op, [(parents, Rule(again, None, range(1, len(values) + 1)), values)], result.data)
    )
