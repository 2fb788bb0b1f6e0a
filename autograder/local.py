"""The student's code in the notebook's own process, for `check`: no sandbox, the same rules for values.

Arguments are copied on the way in, as they are on the way into a worker: a function that changes its input in
place neither passes nor fails because of it. What the code prints is kept, to be shown below the verdict.
"""

from __future__ import annotations

import copy
import io
import reprlib
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from autograder.assignment import Limits
from autograder.errors import CallTimeout, StudentError, not_run_again
from autograder.time_limit import time_limit


class LocalSession:
    """Names bound to what the learner passed to `check`.

    Args:
        values: name to function, class or value.
        only: the one unnamed function that was passed; it answers to any name.
        call_s: seconds that one call may take.
        missing: what is said of a name that is not there.

    Attributes:
        printed: what the learner's code printed so far.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        only: Callable[..., Any] | None = None,
        *,
        call_s: float = Limits.call_s,
        missing: str = "was not passed to check",
    ) -> None:
        self.printed = io.StringIO()
        self._caller = _Caller(self.printed, call_s)
        self._namespace = _Namespace(values, only, missing, self._caller)

    def student(self, question: str, hidden: bool) -> Any:
        """The learner's namespace for a question.

        Raises:
            StudentError: a call of this question ran out of time before; it is not run again.
        """
        if question in self._caller.out_of_time:
            raise not_run_again(self._caller.out_of_time[question])
        self._caller.question = question
        return self._namespace


class _Caller:
    """Calls the learner's functions: with a limit, with their own copies, and keeping what they print."""

    def __init__(self, printed: io.StringIO, call_s: float) -> None:
        self._printed, self._call_s = printed, call_s
        self.question = ""
        self.out_of_time: dict[str, StudentError] = {}

    def guarded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            own, named = [_own_copy(a) for a in args], {k: _own_copy(v) for k, v in kwargs.items()}
            try:
                with time_limit(self._call_s), redirect_stdout(self._printed):
                    return function(*own, **named)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                known = as_student_error(error)
                if isinstance(known, CallTimeout):
                    self.out_of_time[self.question] = known
                if known.kind not in _SAID:
                    known.call = _shown_call(name, args, kwargs)
                raise known from error

        return call


class _Namespace:
    def __init__(
        self, values: Mapping[str, Any], only: Callable[..., Any] | None, missing: str, caller: _Caller
    ) -> None:
        self._values, self._only, self._missing, self._caller = values, only, missing, caller

    def __getattr__(self, name: str) -> Any:
        if name in self._values:
            value = self._values[name]
        elif self._only is not None and not name.startswith("_"):
            value = self._only
        else:
            raise StudentError("NameError", f"`{name}` {self._missing}")
        return self._caller.guarded(name, value) if callable(value) else value


#: Errors that say all there is to say.
_SAID = ("NotImplementedError", "Timeout")


def _shown_call(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """`f([3, 1], 2)`, each argument shortened by itself, so that a long one hides no other."""
    short = _Short()
    shown = [short.repr(v) for v in args] + [f"{k}={short.repr(v)}" for k, v in kwargs.items()]
    return f"{name}({', '.join(s if len(s) <= 90 else s[:87] + '...' for s in shown)})"[:400]


class _Short(reprlib.Repr):
    """The first items of containers, arrays by their shape, functions by their name."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxset = self.maxdict = 8
        self.maxstring = self.maxother = 60
        self.maxlevel = 3

    def repr1(self, x: Any, level: int) -> str:
        if isinstance(x, np.ndarray):
            return f"array{x.shape} {x.dtype}" if x.size > 8 else " ".join(repr(x).split())
        return getattr(x, "__name__", f"a {type(x).__name__}") if callable(x) else super().repr1(x, level)


def _own_copy(value: Any) -> Any:
    if callable(value):  # a test's function; of a bound method, the object behind it would be copied too
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # a handle to something that cannot be copied is passed as it is
        return value


def as_student_error(error: BaseException) -> StudentError:
    """The same error with the line of the learner's cell in which it happened."""
    if isinstance(error, StudentError):
        return error
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if "ipykernel" in f.filename or f.filename.startswith("<")]
    line = lines[-1] if lines else None
    kind = type(error).__name__
    return StudentError(kind, " ".join(str(error).split())[:300], None, line)
