"""One row of the table: an operation on arrays and its rules, and what happens when it is applied.

A rule is one expression per argument, or one function for all of them (joint); its parameters name what it
reads (`out`, arguments of the forward, `kept`), and only that is saved. Rules use operations that take
arrays and tensors alike, so backward can be recorded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from mlsys_lab._core.backend import is_float
from mlsys_lab.autograd.promote import agree, explain, unpack
from mlsys_lab.autograd.tape import Node, mode
from mlsys_lab.autograd.tensor import Tensor

new, generic = object.__new__, np.generic


class Rule:
    """A rule and where its values lie in (out, *arguments, kept)."""

    __slots__ = ("argument", "function", "pick", "positions")

    def __init__(self, function: Callable[..., Any], argument: int | None, positions: Sequence[int]) -> None:
        self.function = function
        self.argument = argument  # None: a joint rule, which answers for all
        self.positions = tuple(positions)
        first = self.positions[0] if self.positions else 0
        self.pick: Callable[[tuple[Any, ...]], tuple[Any, ...]] = (
            itemgetter(*self.positions)
            if len(self.positions) > 1
            else itemgetter(slice(first, first + len(self.positions)))
        )

    def with_function(self, function: Callable[..., Any]) -> Rule:
        """Another function that reads the same values."""
        return Rule(function, self.argument, self.positions)


class Primitive:
    """An operation with its forward on arrays and its rules.

    Given arrays alone it is its forward; a tensor among the arguments makes the result a tensor.

    Args:
        name: as users call it.
        forward: arguments, then attributes, all positional; returns an array, or (array, kept) with `keeps`.
        rules: per argument `(g, ...) -> gradient`, or None where nothing flows; then come attributes.
        joint: in place of `rules`: `(g, ...) -> tuple of gradients`, one per argument.
        names: the forward's parameters, where it does not tell them itself.
        same: the result has the dtype of the tensors, which have to agree (elementwise, matrix product).
        keeps: the forward returns a second value, that only rules see, by the name `kept`.
        variadic: the first argument is a sequence of tensors.
        custom: the rule is a user's: its results are copied before they are added to.
    """

    __slots__ = ("custom", "forward", "joint", "keeps", "name", "names", "rules", "same", "variadic", "width")

    def __init__(
        self, name: str, forward: Callable[..., Any], *rules: Callable[..., Any] | None,
        joint: Callable[..., Any] | None = None, names: str = "", same: bool = True, keeps: bool = False,
        variadic: bool = False, custom: bool = False,
    ) -> None:  # fmt: skip
        self.name, self.forward, self.same, self.keeps = name, forward, same, keeps
        self.variadic, self.custom = variadic, custom
        given = names.split() or (
            ["x", "y"][: forward.nin]
            if isinstance(forward, np.ufunc)
            else list(inspect.signature(forward).parameters)
        )
        self.names = ["out", *given, "kept"]
        self.rules = [rule and Rule(rule, i, self.reads(rule)) for i, rule in enumerate(rules)]
        self.width = forward.nin if isinstance(forward, np.ufunc) else len(rules)  # then come attributes
        self.joint = Rule(joint, None, self.reads(joint)) if joint else None

    def reads(self, rule: Callable[..., Any]) -> list[int]:
        """Where the values that a rule names lie in (out, *arguments, kept)."""
        return [self.names.index(name) for name in list(inspect.signature(rule).parameters)[1:]]

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __call__(self, *arguments: Any) -> Any:
        """Apply to tensors, arrays and numbers, then attributes; see the class."""
        values: list[Any] = []
        dtype = None
        traced = mixed = False
        for x in arguments:
            if isinstance(x, Tensor):
                values.append(x_data := x.data)
                if dtype is None:
                    dtype = x_data.dtype
                elif dtype is not x_data.dtype:
                    mixed = True
                if x.node is not None:
                    traced = True
            else:
                values.append(x)
                mixed = True
        inputs = arguments
        if self.variadic:
            inputs = arguments[0]
            traced, dtype = unpack(inputs, values)
        if dtype is None:
            out = self.forward(*values)
            return out[0] if self.keeps else out
        if mixed and self.same:
            dtype = agree(self, dtype, values)
        try:
            out = self.forward(*values)
        except (ValueError, IndexError, TypeError) as error:
            raise explain(self, values, error) from error
        if self.keeps:
            out, kept = out
            values.append(kept)
        if out.dtype is not dtype and self.same:
            if is_float(dtype):
                out = out.astype(dtype)
            elif out.dtype == np.float64:  # of integers and numbers
                out = out.astype(np.float32)
        result = new(Tensor)
        result.data = out if out.shape or not isinstance(out, generic) else np.asarray(out)
        result.node = None
        if traced and mode.recording:
            pool = (out, *values)
            edges: Any = []
            if self.joint is not None:
                parents = tuple([x.node if isinstance(x, Tensor) else None for x in inputs])
                edges.append((parents, self.joint, self.joint.pick(pool)))
            else:
                for x, rule in zip(inputs, self.rules):  # noqa: B905
                    if isinstance(x, Tensor) and x.node is not None and rule is not None:
                        edges.append((x.node, rule, rule.pick(pool)))
            if edges and (self.same or is_float(out.dtype)):
                result.node = Node(self, edges, out)
        if mode.observer is not None:
            mode.observer(self, arguments, result)
        return result

    def tracked(self, node: Node, values: tuple[Any, ...], rule: Rule) -> list[Any]:
        """The saved values as tensors at their old places on the tape, for a backward that is recorded."""
        origin: dict[int, Node | None] = {0: node}
        for parent, one, _ in node.edges or ():
            if isinstance(parent, tuple):
                origin.update(enumerate(parent, start=1))
            else:
                origin[one.argument + 1] = parent

        def lifted(value: Any, place: int) -> Any:
            return value if origin.get(place) is None else Tensor.made(value, origin[place])

        if self.variadic:  # position 1 holds the list of all inputs
            return [
                [lifted(x, i) for i, x in enumerate(v, 1)] if p == 1 else v
                for v, p in zip(values, rule.positions, strict=True)
            ]
        return [lifted(v, p) for v, p in zip(values, rule.positions, strict=True)]
