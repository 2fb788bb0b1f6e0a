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
from autograder.errors import StudentError
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
        self._namespace = _Namespace(values, only, missing, _Caller(self.printed, call_s))

    def student(self, question: str, hidden: bool) -> Any:
        return self._namespace


class _Caller:
    """Calls the learner's functions: with a limit, with their own copies, and keeping what they print."""

    def __init__(self, printed: io.StringIO, call_s: float) -> None:
        self._printed, self._call_s = printed, call_s

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
    """`f([3, 1], 2)`, shortened where an argument is long; of a function, its type."""
    short = reprlib.Repr()
    short.maxlist = short.maxtuple = short.maxset = short.maxdict = 8
    short.maxstring = short.maxother = 60
    short.maxlevel = 3

    def shown(value: Any) -> str:
        if isinstance(value, np.ndarray):
            return f"array{value.shape} {value.dtype}" if value.size > 8 else " ".join(repr(value).split())
        return f"a {type(value).__name__}" if callable(value) else short.repr(value)

    return f"{name}({', '.join([*map(shown, args), *(f'{k}={shown(v)}' for k, v in kwargs.items())])})"[:300]


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
