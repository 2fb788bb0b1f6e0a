"""Quantities are read as they are written, and what is ambiguous is refused with its readings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys_lab._core.quantity import DECIMAL, amount, parse, show


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("80GB", 80e9, "B"),
        ("80 GiB", 80 * 2**30, "B"),
        ("1.5 TFLOP/s", 1.5e12, "FLOP/s"),
        ("312TFLOPS", 312e12, "FLOP/s"),
        ("400 Gbit/s", 50e9, "B/s"),
        ("$2/h", 2 / 3600, "USD/s"),
        ("2 USD/h", 2 / 3600, "USD/s"),
        ("200ms", 0.2, "s"),
        ("1 GMAC", 2e9, "FLOP"),
        ("1.2 kWh", 4.32e6, "J"),
        ("7B tokens", 7e9, "token"),
        ("3 days", 259200, "s"),
        ("1,000 MB", 1e9, "B"),
        ("5e-3 s", 0.005, "s"),
        ("42", 42, ""),
    ],
)
def test_a_quantity_is_in_si_base_units(text, value, unit):
    found = parse(text)
    assert found.unit == unit
    assert found.value == pytest.approx(value, rel=1e-15)


def test_80_gb_and_80_gib_are_two_quantities():
    assert parse("80GiB").value - parse("80GB").value == 5_899_345_920


@given(st.integers(1, 999), st.sampled_from([p for p in DECIMAL if p != "K"]))
def test_what_is_shown_is_read_as_the_same(number, prefix):
    value = float(number * DECIMAL[prefix])
    for unit in ("B", "FLOP/s", "token") if prefix in ("", "k", "M", "G", "T") else ("B", "FLOP/s"):
        assert parse(show(value, unit), unit).value == value


@pytest.mark.parametrize(
    ("text", "unit", "says"),
    [
        ("80gb", "B", "GB for bytes or Gbit for bits"),
        ("80Gb", "B", "GB for bytes or Gbit for bits"),
        ("80G", "B", "80GB|GB or GiB"),
        ("80", "B", "unit is missing"),
        ("80 s", "B", "expected B"),
        ("-3GB", "B", "more than zero"),
        ("0GB", "B", "more than zero"),
        ("many", "B", "not a quantity"),
        ("12 parsec", None, "unknown unit"),
        ("1 GB/s/s", None, "at most one"),
        ("1e999GB", "B", "too large"),
        ("", "B", "not a quantity"),
    ],
)
def test_a_wrong_quantity_is_refused_in_one_line_that_names_the_fix(text, unit, says):
    with pytest.raises(ValueError, match=says) as refusal:
        amount(text, unit) if unit else parse(text)
    assert "\n" not in str(refusal.value)
