"""One's own rules: a new primitive, or a learner's rule in the place of a row's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from mlsys_lab.autograd.errors import GraphError
from mlsys_lab.autograd.primitive import Primitive, Rule
from mlsys_lab.autograd.tape import table


def primitive(
    name: str, forward: Callable[..., Any], *rules: Callable[..., Any] | None, **options: Any
) -> Primitive:
    """A primitive of one's own, used like any other.

    Args:
        name: shown in messages.
        forward: from arrays to an array.
        rules: per argument `(g, ...) -> gradient`; the further parameters name what it reads, `out` or
            arguments of the forward.
        options: see `Primitive`; `joint=` is one rule for all arguments.

    Example:
        >>> cube = primitive("cube", lambda x: x * x * x, lambda g, x: 3 * g * x * x)
    """
    return Primitive(name, forward, *rules, custom=True, **options)


class override:
    """With this, `vjp(g, *arguments) -> gradients` is the rule of the named operation everywhere.

    Args:
        name: a row of the table, such as "matmul".
        vjp: takes the gradient of the result, then the arguments (`out` under that name); returns one
            gradient per tensor argument, an array or a tensor. The engine sums over broadcast axes.

    Raises:
        GraphError: there is no such row.
    """

    def __init__(self, name: str, vjp: Callable[..., Any]) -> None:
        if name not in table:
            raise GraphError(
                f"override expects an operation of the table, got {name!r}: one of {sorted(table)}"
            )
        self.op: Primitive = table[name]
        self.vjp = vjp

    def __enter__(self) -> None:
        given = list(inspect.signature(self.vjp).parameters)[1:]
        positions, after = [], 1
        for parameter in given:
            positions.append(0 if parameter == "out" else after)
            after += parameter != "out"
        count = len(self.op.names) - 2
        if max(positions, default=0) > count and not self.op.variadic:
            raise GraphError(f"the rule for {self.op.name!r} takes g and {self.op.names[1:-1]}, got {given}")

        def joint(g: Any, *values: Any) -> tuple[Any, ...]:
            grads = self.vjp(g, *values)
            grads = tuple(grads) if isinstance(grads, (tuple, list)) else (grads,)
            if any(rule and (i >= len(grads) or grads[i] is None) for i, rule in enumerate(self.op.rules)):
                got = "None among them" if len(grads) >= self.op.width else f"{len(grads)} of {self.op.width}"
                raise GraphError(f"the rule for {self.op.name!r} returns a gradient per argument, got {got}")
            return tuple(self.as_g_is(g, part) for part in grads)

        self.before = self.op.joint, self.op.custom
        self.op.joint, self.op.custom = Rule(joint, None, positions), True

    @staticmethod
    def as_g_is(g: Any, part: Any) -> Any:
        """A gradient as an array or a tensor, whichever g is; a learner may return a number."""
        part = part if part is None or hasattr(part, "dtype") else np.asarray(part)
        return part.data if hasattr(part, "node") and not hasattr(g, "node") else part

    def __exit__(self, *error: Any) -> None:
        self.op.joint, self.op.custom = self.before
