"""Intervals keep their promise: exact ones have width 0, and a prediction covers what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys_lab.capacity.interval import BASES, Interval, student_t

POSITIVE = st.floats(1e-3, 1e3)


@st.composite
def intervals(draw):
    low, mid, high = sorted(draw(st.lists(POSITIVE, min_size=3, max_size=3)))
    return Interval(low, mid, high, "assumed", ("row",))


@given(intervals(), intervals(), st.floats(0, 1), st.floats(0, 1))
def test_a_result_holds_every_value_that_its_operands_could_give(a, b, s, t):
    x, y = a.low + s * (a.high - a.low), b.low + t * (b.high - b.low)
    for result, value in (
        (a + b, x + y),
        (a * b, x * y),
        (a / b, x / y),
        (a - b, x - y),
        (3 / a, 3 / x),
        (2 - a, 2 - x),
    ):
        assert result.contains(value, slack=1e-12) or abs(value) < 1e-9 or value < 0
        assert result.low <= result.mid <= result.high


def test_the_weakest_basis_and_all_rows_carry_over():
    parts = [Interval(1, 2, 3, basis, (basis,)) for basis in BASES[1:]]
    whole = Interval.exact(1.0)
    for part in parts:
        whole = whole * part
    assert whole.basis == "assumed"
    assert whole.rows == BASES[1:]
    assert (Interval.exact(2.0) * 3).is_exact


@pytest.mark.parametrize(
    ("arguments", "says"),
    [((1, 2, 3), "width 0"), ((3, 2, 1, "assumed"), "low <= mid"), ((1, 1, 1, "guessed"), "is none of")],
)
def test_an_interval_that_contradicts_itself_is_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        Interval(*arguments)


@pytest.mark.parametrize(
    ("freedom", "t"), [(1, 3.0777), (2, 1.8856), (5, 1.4759), (10, 1.3722), (30, 1.3104)]
)
def test_students_t_is_the_tables(freedom, t):
    assert student_t(0.8, freedom) == pytest.approx(t, abs=1e-4)


def test_a_prediction_from_few_values_covers_the_share_that_it_promises():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(600):
        seen = np.exp(rng.normal(1.0, 0.5, 6))
        inside += Interval.covering(seen[:5], 0.8, "calibrated").contains(seen[5])
    assert inside / 600 == pytest.approx(0.8, abs=0.05)


def test_its_json_has_the_four_keys():
    assert json.loads(json.dumps(Interval(1, 2, 3, "measured").to_json())) == {
        "low": 1,
        "mid": 2,
        "high": 3,
        "basis": "measured",
    }
