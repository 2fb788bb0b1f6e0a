"""close(): the one comparison of the course; its failure carries what to draw.

numpy.testing words its failure for a programmer and lets a scalar pass for an array by broadcasting. Here the
type, the shape and then each element must agree, and the failure keeps both sides, so that `check` can draw
expected, yours and the difference. Where a test is hidden, the runner withholds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Numbers = (bool, int, float, complex, np.generic)
KIND, VALUE = "not of the type or shape that is asked for", "the values differ"


class Mismatch(AssertionError):
    """What came is not what was expected.

    Attributes:
        expected, actual: both sides, at the place `where` in the result (empty: the result itself).
        input: what the student's function was called with, if the test said so.
        reason: `KIND` or `VALUE`, all that may be said of a hidden test; none of it is the student's choice.
    """

    def __init__(
        self, message: str, *, expected: Any, actual: Any, input: Any, where: str, reason: str
    ) -> None:
        super().__init__(message)
        self.expected, self.actual, self.input = expected, actual, input
        self.where, self.reason = where, reason


def close(actual: Any, expected: Any, *, rtol: float = 0.0, atol: float = 0.0, input: Any = None) -> None:
    """Hold a student's result to the expected one.

    Args:
        actual: what the student's code returned.
        expected: the oracle's value: a number, text, array, or a tuple, list or dict of these.
        rtol: allowed |actual - expected| as a share of |expected|; 0 with atol 0 means exactly equal.
        atol: allowed |actual - expected|, in the result's own unit.
        input: the arguments of the call, shown beside the failure.

    Raises:
        Mismatch: another type, length, shape or value. A NaN agrees with an expected NaN only.

    Example:
        >>> close(np.float32([1, 2]), [1.0, 2.0])
    """
    _compare(actual, expected, rtol, atol, input, "")


def _compare(actual: Any, expected: Any, rtol: float, atol: float, given: Any, where: str) -> None:
    def fail(what: str, reason: str = KIND) -> None:
        said = what + (f" at {where}" if where else "")
        raise Mismatch(said, expected=expected, actual=actual, input=given, where=where, reason=reason)

    if isinstance(expected, Mapping):
        if not isinstance(actual, dict):
            fail(f"expected a dict, got {_kind(actual)}")
        if set(actual) != set(expected):
            fail(f"expected the keys {_short(list(expected))}, got {_short(list(actual))}")
        for key, value in expected.items():
            _compare(actual[key], value, rtol, atol, given, f"{where}[{key!r}]")
    elif isinstance(expected, str | bytes | None | bool | np.bool_ | set | frozenset):
        same_kind = isinstance(actual, bool | np.bool_) == isinstance(expected, bool | np.bool_)
        if not same_kind or isinstance(actual, np.ndarray) or type(actual) is float or actual != expected:
            fail(f"expected {_short(expected)}, got {_short(actual)}", VALUE)
    elif isinstance(expected, Sequence) and not _is_numeric(expected):
        if not isinstance(actual, list | tuple):
            fail(f"expected a {type(expected).__name__}, got {_kind(actual)}")
        if len(actual) != len(expected):
            fail(f"expected {len(expected)} items, got {len(actual)}")
        for i, value in enumerate(expected):
            _compare(actual[i], value, rtol, atol, given, f"{where}[{i}]")
    else:
        _compare_numbers(actual, expected, rtol, atol, fail)


def _compare_numbers(actual: Any, expected: Any, rtol: float, atol: float, fail: Any) -> None:
    if not isinstance(actual, (*Numbers, np.ndarray, list, tuple)) or not _is_numeric(actual):
        fail(_not_numbers(actual, expected))
    ours, theirs = np.asarray(expected), np.asarray(actual)
    if ours.shape != theirs.shape:
        fail(f"expected {_shape(ours)}, got {_shape(theirs)}")
    if (ours.dtype.kind == "b") != (theirs.dtype.kind == "b"):
        wanted = "booleans" if ours.dtype.kind == "b" else "numbers"
        fail(f"expected {wanted}, got {_kind(actual)}")
    try:
        wrong = _differing(theirs, ours, rtol, atol)
        nan = int((np.isnan(theirs.astype(complex)) & ~np.isnan(ours.astype(complex))).sum())
    except OverflowError:  # an integer that no float holds
        wrong, nan = np.asarray(ours != theirs), 0
    if not wrong.any():
        return
    share = f"{int(wrong.sum())} of {wrong.size} values differ" if ours.shape else "the value differs"
    share += f" ({nan} NaN)" if nan else ""
    shown = "" if ours.shape else f": expected {_short(expected)}, got {_short(actual)}"
    fail(share + shown, VALUE)


def _not_numbers(actual: Any, expected: Any) -> str:
    """Why a value is not the numbers that were expected."""
    if isinstance(actual, np.ndarray) and np.ndim(expected):
        return f"expected numbers, got an array of dtype {actual.dtype}"
    if not isinstance(actual, list | tuple) or not np.ndim(expected):
        return f"expected {'an array' if np.ndim(expected) else 'a number'}, got {_kind(actual)}"
    if len(actual) != len(expected):
        return f"expected {counted(len(expected), 'item')}, got {len(actual)}"
    for i, item in enumerate(actual):
        if not _is_numeric(item):
            return f"item {i} is {_short(item)}, not {'numbers' if np.ndim(expected) > 1 else 'a number'}"
    return f"expected {_shape(np.asarray(expected))}, got rows of different lengths"


def _differing(actual: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> np.ndarray:
    """Where the two differ: exactly for integers without a tolerance, else in floating point."""
    if rtol == 0 and atol == 0 and expected.dtype.kind in "biuO" and actual.dtype.kind in "biuO":
        return np.asarray(expected != actual)
    return _far(actual, expected, rtol, atol)


def _far(actual: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> np.ndarray:
    """Where the two differ by more than atol + rtol * |expected|, computed in float64 or wider."""
    kinds = [np.dtype(np.float64) if d.kind == "O" else d for d in (actual.dtype, expected.dtype)]
    wide = np.result_type(*kinds, np.float64)
    a, e = actual.astype(wide), expected.astype(wide)
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.isfinite(e) & (np.abs(a - e) <= atol + rtol * np.abs(e))
    return np.asarray(~(near | (a == e) | (np.isnan(a) & np.isnan(e))))


def _is_numeric(value: Any) -> bool:
    """Is it a number, a numeric array, or nested lists of numbers of one shape?"""
    if isinstance(value, Numbers):
        return True
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        return False
    return array.dtype.kind in "biufc" and (array.size > 0 or isinstance(value, np.ndarray))


def _shape(array: np.ndarray) -> str:
    return f"shape {array.shape}" if array.shape else "a single number"


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if type(value).__name__ == "Handle":  # an object that stayed with the student, told by its own name
        return repr(value)[1:-1]
    return "None (is there a return?)" if value is None else f"a value of type {type(value).__name__}"


def counted(n: float, noun: str) -> str:
    """A number of things, as a message says it: `1 point`, `2.5 points`."""
    return f"{n:g} {noun}" + ("" if n == 1 else "s")


def _short(value: Any, limit: int = 80) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
