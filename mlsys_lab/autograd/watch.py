"""Watching operations: observers, and anomaly mode built on one.

`observe(callback)` is the one seam for capture, profiling and pictures: callback(primitive, arguments,
result) after each operation of this thread, forward or recorded backward. It costs one `is None` test while
nobody watches.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mlsys_lab._core.backend import is_float
from mlsys_lab.autograd.errors import NonFiniteError
from mlsys_lab.autograd.tape import Node, mode

HERE = str(Path(__file__).parent)


class observe:
    """With this, `callback(primitive, arguments, result)` hears of each operation; several may listen."""

    def __init__(self, callback: Callable[..., None]) -> None:
        self.callback = callback

    def __enter__(self) -> None:
        mine, outer = self.callback, mode.observer

        def tell(*event: Any) -> None:
            mine(*event)
            if outer is not None:
                outer(*event)

        self.before, mode.observer = outer, tell

    def __exit__(self, *error: Any) -> None:
        mode.observer = self.before


def user_line() -> str:
    """The file and line, outside the engine, that is being run."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(HERE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def finite(value: Any) -> bool:
    return not is_float(value.dtype) or bool(np.isfinite(value).all())


class detect_anomaly(observe):
    """With this, the first NaN or infinity raises, and names its operation and forward line.

    Raises:
        NonFiniteError: from the operation, or from a backward inside this context; the line is known of what
            ran forward inside it too.
    """

    def __init__(self) -> None:
        super().__init__(self.look)
        self.lines: dict[int, str] = {}  # by the serial number of a node
        self.watched: set[int] = set()  # serial numbers, so that a second backward wraps no rule again

    def __enter__(self) -> None:
        super().__enter__()
        self.walked, mode.before_walk = mode.before_walk, self.watch

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        mode.before_walk = self.walked

    def look(self, op: Any, arguments: tuple[Any, ...], result: Any) -> None:
        where = user_line()
        if not finite(result.data):
            raise NonFiniteError(f"{op.name!r} gave NaN or infinity at {where}: look at its arguments there")
        if result.node is not None:
            self.lines[result.node.serial] = where

    def watch(self, tape: list[Node]) -> None:
        """Make the rules of a tape look at what they return."""
        for node in (n for n in tape if n.serial not in self.watched):
            self.watched.add(node.serial)
            where = self.lines.get(node.serial, "a line outside of detect_anomaly()")
            node.edges = [
                (parent, watched(rule, node.op.name, where), values) for parent, rule, values in node.edges
            ]


def watched(rule: Any, name: str, where: str) -> Any:
    """A rule that looks at what it returns."""

    def function(g: Any, *values: Any) -> Any:
        grad = rule.function(g, *values)
        for part in grad if isinstance(grad, tuple) else (grad,):
            if part is not None and not finite(part.data if hasattr(part, "node") else part):
                raise NonFiniteError(
                    f"backward of {name!r} gave NaN or infinity; its forward ran at {where}: look "
                    "at its arguments there"
                )
        return grad

    return rule.with_function(function)
