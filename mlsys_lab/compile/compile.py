"""compile(fn): the same function, captured per set of shapes and numbers, optimised, run as C or NumPy."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from mlsys_lab.autograd import Tensor
from mlsys_lab.autograd.tape import mode
from mlsys_lab.compile.capture import CaptureError
from mlsys_lab.compile.ir import leaves
from mlsys_lab.compile.program import PASSES, Program

log = logging.getLogger("mlsys_lab.compile")
LIMIT = 16  # programs of one function; torch._dynamo.config.recompile_limit is 8
SPELLED = (int, float, complex, str, bytes, slice, type(None))  # known by their text, all else by identity


class Compiled:
    """What `compile` returns; called like the function.

    Attributes:
        programs: one per set of shapes, dtypes and numbers that came.
        events: what was compiled, compiled again or left to eager, and why, one line each.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.fn = fn
        self.programs: dict[Any, Program | None] = {}
        self.held: dict[int, Any] = {}  # arguments that are known by their id, so that it stays theirs
        self.latest: Program | None = None
        self.events: list[str] = []
        self.name = getattr(fn, "__name__", type(fn).__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if mode.observer is not None:  # somebody watches every operation, or captures: let them see
            return self.fn(*args, **kwargs)
        tree = (args, kwargs)
        given: list[Any] = []
        key: list[Any] = [mode.recording, len(args), tuple(kwargs)]
        for x in (*args, *kwargs.values()) if kwargs else args:
            self.note(x, given, key)
        found = tuple(key)
        known = found in self.programs
        program = self.programs[found] if known else None
        if not known or (program is not None and not program.holds()):
            program = self.compiled(found, tree, again=known)
        return self.fn(*args, **kwargs) if program is None else program(given, tree)

    def note(self, x: Any, given: list[Any], key: list[Any]) -> None:
        """Write down what of an argument the program depends on."""
        if isinstance(x, (Tensor, np.ndarray)):
            for i, y in enumerate(given):
                if x is y:
                    key.append(i)  # the same one again
                    return
            given.append(x)
            key.append((x.shape, x.dtype, isinstance(x, Tensor) and x.node is not None, type(x)))
        elif isinstance(x, (tuple, list, dict)):
            key.append((type(x), len(x), *(x if isinstance(x, dict) else ())))
            for one in x.values() if isinstance(x, dict) else x:
                self.note(one, given, key)
        elif isinstance(x, np.generic):
            key.append((type(x), x.tobytes(), x.dtype))
        else:  # text and not value: 0.0 is not -0.0, and NaN is NaN
            key.append((type(x), repr(x) if isinstance(x, SPELLED) else id(x)))

    def compiled(self, key: Any, tree: Any, again: bool) -> Program | None:
        """Capture and lower for new arguments, and say so."""
        if not again and len(self.programs) >= LIMIT:
            line = f"{self.name} runs eagerly for further arguments: {LIMIT} programs are the limit"
            if line not in self.events:
                self.say(line, logging.WARNING)
            return None
        reason = "the first call" if not self.programs else self.difference(key, again)
        self.held.update({id(x): x for x in leaves(tree) if not isinstance(x, (Tensor, np.ndarray))})
        try:
            program: Program | None = Program(self.fn, tree)
        except CaptureError as error:
            program = None
            self.say(f"{self.name} runs eagerly: {error}", logging.WARNING)
        else:
            assert program is not None
            self.latest = program
            by = f"NumPy ({program.fallback})" if program.fallback else "C"
            self.say(f"{self.name} was compiled to {by} for {reason}", logging.INFO)
        self.programs[key] = program
        return program

    def difference(self, key: Any, again: bool) -> str:
        """What changed since the program before, in words."""
        if again:
            return "a tensor outside or an overridden rule that changed"
        old = list(self.programs)[-1]
        if old[1:3] != key[1:3]:
            return "another number of arguments, or other names"
        i = next(i for i, (before, now) in enumerate(zip(old, key, strict=False)) if before != now)
        return f"{spelled(key[i])} in place of {spelled(old[i])}" + (f" (argument {i - 3})" if i else "")

    def say(self, line: str, level: int) -> None:
        self.events.append(line)
        log.log(level, line)

    def explain(self) -> str:
        """What was compiled, when and why, a line each."""
        return "\n".join(self.events) or f"{self.name} was not called yet"

    def graph(self, name: str = "plan", part: str = "forward") -> Any:
        """The latest program's graph after a pass.

        Args:
            name: "capture" or a pass: "fold", "cse", "dce", "fuse", "plan".
            part: "forward", or "backward" where results are on the tape.
        """
        if self.latest is None:
            raise CaptureError(f"{self.name} has no graph: {self.explain()}")
        stages = self.latest.stages
        if part not in stages or name not in stages[part]:
            raise ValueError(
                f"no graph {name!r} of {part!r}: there are {[*stages]}, each {['capture', *PASSES]}"
            )
        return stages[part][name]

    def show(self, name: str) -> str:
        """A pass before and after, as text."""
        names = ["capture", *PASSES]
        if name not in PASSES:
            raise ValueError(f"show expects one of {list(PASSES)}, got {name!r}")
        before = names[names.index(name) - 1]
        return f"before {name}\n{self.graph(before)}\n\nafter {name}\n{self.graph(name)}"

    @property
    def source(self) -> str:
        """The C text of the latest program's forward; empty where NumPy runs."""
        return self.latest.forward.source if self.latest is not None else ""


def spelled(part: Any) -> str:
    """One part of a key in words."""
    if isinstance(part, tuple) and len(part) == 4 and isinstance(part[0], tuple):
        return f"{part[1]}[{','.join(map(str, part[0]))}]" + (" with gradient" if part[2] else "")
    if isinstance(part, tuple) and len(part) == 3 and isinstance(part[1], bytes):
        return repr(np.frombuffer(part[1], part[2])[0])
    if isinstance(part, tuple) and len(part) == 2:
        return part[1] if isinstance(part[1], str) else f"another {part[0].__name__}"
    return str(part)


def compile(fn: Callable[..., Any]) -> Compiled:
    """A function with the same results, captured at its first call; then its graph runs in its place.

    A capture runs the function twice, on real values, to see that both take the same steps. So a print or
    an append inside happens twice and then no more; where the two differ (dropout), the function runs a
    third time, eagerly, and has drawn three times from its generator.

    Args:
        fn: a function of tensors, arrays, numbers and nested tuples, lists and dictionaries of them, made of
            the engine's operations; `backward` and `ag.grad` inside are captured too. It may close over
            tensors, which are read anew at each call; other state is taken as it is at the capture. Numbers
            and text among the arguments are part of the program, other objects count by identity; past 16
            programs further arguments run eagerly.

    Returns:
        A `Compiled`: call it like fn; `explain()` says what was compiled, `show(pass)` what a pass did.

    Example:
        >>> step = compile(lambda x: ag.grad(ag.sum(ag.tanh(x) * x), x)[0])
    """
    return Compiled(fn)
