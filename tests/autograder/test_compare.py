"""close() against numpy.testing where both must agree, and against what numpy.testing lets pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from autograder.compare import Mismatch, close

ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int32]), hnp.array_shapes(max_dims=3, max_side=4)
)


@given(ARRAYS, ARRAYS, st.sampled_from([0.0, 1e-6, 0.1]), st.sampled_from([0.0, 1e-3, 1.0]))
def test_agrees_with_numpy_on_arrays_of_one_shape(a, b, rtol, atol):
    if a.shape != b.shape:
        b = np.broadcast_to(b.reshape(-1)[0], a.shape).copy()
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    expected = bool(np.isclose(wide_a, wide_b, rtol=rtol, atol=atol, equal_nan=True).all())
    try:
        close(a, b, rtol=rtol, atol=atol)
        passed = True
    except Mismatch:
        passed = False
    assert passed == expected


@given(ARRAYS)
def test_an_array_equals_itself_and_not_itself_plus_one(a):
    close(a.copy(), a)
    if np.isfinite(a.astype(np.float64)).all() and np.abs(a.astype(np.float64)).max() < 1e6:
        with pytest.raises(Mismatch):
            close(a + 1, a)


@pytest.mark.parametrize(
    ("actual", "expected", "said"),
    [
        (3.0, np.full((2, 2), 3.0), "expected shape (2, 2), got a single number"),
        (np.zeros((1,)), np.zeros((3,)), "expected shape (3,), got shape (1,)"),
        (None, np.zeros(2), "expected an array, got None (is there a return?)"),
        ("3", 3, "expected a number, got a value of type str"),
        (np.array([1.0, np.nan]), np.array([1.0, 2.0]), "1 of 2 values differ (1 NaN)"),
        (2.0, 3.0, "the value differs: expected 3.0, got 2.0"),
        (1, True, "expected True, got 1"),
        (True, 1, "expected numbers, got a value of type bool"),
        ([1, 2], (1, 2, 3), "expected shape (3,), got shape (2,)"),
        ({"a": 1}, {"b": 1}, "expected the keys ['b'], got ['a']"),
        ({"a": 2}, {"a": 1}, "the value differs: expected 1, got 2 at ['a']"),
        ([("x", 1)], [("x", 2)], "the value differs: expected 2, got 1 at [0][1]"),
        (np.array([], dtype=float), np.array([1.0]), "expected shape (1,), got shape (0,)"),
        (b"a", "a", "expected 'a', got b'a'"),
        (0, None, "expected None, got 0"),
    ],
)
def test_names_what_differs(actual, expected, said):
    with pytest.raises(Mismatch) as caught:
        close(actual, expected)
    assert str(caught.value) == said


def test_the_reason_for_a_hidden_test_holds_no_expected_value():
    for actual, expected in [
        (1.0, 31337.0),
        (np.zeros(3), np.full(3, 31337.0)),
        ("a", "31337"),
        ([1], [31337]),
    ]:
        with pytest.raises(Mismatch) as caught:
            close(actual, expected)
        assert "31337" not in caught.value.reason


def test_integers_beyond_float64_are_compared_exactly():
    close(2**53 + 1, 2**53 + 1)
    with pytest.raises(Mismatch):
        close(2**53 + 1, 2**53)


def test_python_integers_beyond_int64_are_compared_exactly():
    close(2**80, 2**80)
    with pytest.raises(Mismatch):
        close(2**80 + 1, 2**80)
