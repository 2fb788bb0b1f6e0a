"""The student's code in the notebook's own process, for `check`: no sandbox, the same rules for values.

Arguments are copied on the way in, as they are on the way into a worker: a function that changes its input in
place neither passes nor fails because of it.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from autograder.errors import StudentError
from autograder.time_limit import time_limit

#: Seconds that one call of a learner's function may take in a check.
CALL_S = 10.0


class LocalSession:
    """Names bound to what the learner passed to `check`.

    Args:
        values: name to function, class or value.
        only: the one unnamed function that was passed; it answers to any name.
    """

    def __init__(self, values: Mapping[str, Any], only: Callable[..., Any] | None = None) -> None:
        self._namespace = _Namespace(values, only)

    def student(self, question: str, hidden: bool) -> Any:
        return self._namespace


class _Namespace:
    def __init__(self, values: Mapping[str, Any], only: Callable[..., Any] | None) -> None:
        self._values, self._only = values, only

    def __getattr__(self, name: str) -> Any:
        if name in self._values:
            value = self._values[name]
        elif self._only is not None and not name.startswith("_"):
            value = self._only
        else:
            raise StudentError("NameError", f"`{name}` was not passed to check")
        return _guarded(value) if callable(value) else value


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            with time_limit(CALL_S):
                return function(*map(_own_copy, args), **{k: _own_copy(v) for k, v in kwargs.items()})
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise as_student_error(error) from error

    return call


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
