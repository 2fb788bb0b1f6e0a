"""Lab 07: its checks pass the reference and fail wrong solutions that look right; its text holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autograder.local import LocalSession
from autograder.reference import reference
from autograder.run_tests import run_tests
from mlsys_lab.capacity import device

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "labs" / "07_roofline.py"
CHECKS = [ROOT / "labs" / "checks" / "test_07.py"]


def failed(question: str, function: Any) -> list[str]:
    """The tests of a question that a function does not pass."""
    results = run_tests(CHECKS, LocalSession({}, function), seed=7, question=question)
    assert results
    return [r.name for r in results if not r.passed]


def products(name, sizes, width=4):
    m, k, n = sizes if name == "matmul" else (*sizes, 1)
    return 2 * m * k * n, (m * k + k * n + m * n) * width


def vectors(name, sizes, width=4):
    return (sizes[0] if name == "add" else 2 * sizes[0]), 3 * sizes[0] * width


def work(name, sizes, width=4):
    return (vectors if name in ("add", "axpy") else products)(name, sizes, width)


def multiplies_alone(name, sizes, width=4):
    flops, moved = work(name, sizes, width)
    return flops if name == "add" else flops // 2, moved


def axpy_reads_one(name, sizes, width=4):
    flops, moved = work(name, sizes, width)
    return flops, moved - (sizes[0] * width if name == "axpy" else 0)


def no_result(name, sizes, width=4):
    flops, moved = work(name, sizes, width)
    if name in ("add", "axpy"):
        return flops, moved
    m, _, n = sizes if name == "matmul" else (*sizes, 1)
    return flops, moved - m * n * width


def no_cache(name, sizes, width=4):
    if name in ("add", "axpy"):
        return work(name, sizes, width)
    m, k, n = sizes if name == "matmul" else (*sizes, 1)
    return 2 * m * k * n, (2 * m * k * n + m * n) * width


def float32_always(name, sizes, width=4):
    return work(name, sizes)


def square(name, sizes, width=4):
    if name in ("add", "axpy"):
        return work(name, sizes, width)
    return work(name, sizes, width)[0], (len(sizes) * sizes[0] ** 2) * width


def larger(intensity, peak, bandwidth):
    return np.maximum(peak, intensity * bandwidth), peak / bandwidth


def slope_alone(intensity, peak, bandwidth):
    return intensity * bandwidth, peak / bandwidth


def ridge_upside_down(intensity, peak, bandwidth):
    return np.minimum(peak, intensity * bandwidth), bandwidth / peak


def numbers_alone(intensity, peak, bandwidth):
    return min(peak, intensity * bandwidth), peak / bandwidth


def smallest_of_all(intensity, peak, bandwidth):
    return np.minimum(peak, np.min(intensity * bandwidth)), peak / bandwidth


def returns_after_the_last(people, seats, minutes):
    return minutes, 2 * -(-people // seats) * minutes, 30 * seats / minutes


def full_trips_alone(people, seats, minutes):
    return minutes, (2 * max(people // seats, 1) - 1) * minutes, 30 * seats / minutes


def no_way_back(people, seats, minutes):
    return minutes, -(-people // seats) * minutes, 30 * seats / minutes


def rate_of_one_way(people, seats, minutes):
    return minutes, (2 * -(-people // seats) - 1) * minutes, 60 * seats / minutes


def rate_of_these_people(people, seats, minutes):
    last = (2 * -(-people // seats) - 1) * minutes
    return minutes, last, people * 60 / last


@pytest.mark.parametrize(
    ("question", "wrong"),
    [
        *[("q1", f) for f in (multiplies_alone, axpy_reads_one, no_result, no_cache, float32_always, square)],
        *[("q2", f) for f in (larger, slope_alone, ridge_upside_down, numbers_alone, smallest_of_all)],
        *[("q3", f) for f in (returns_after_the_last, full_trips_alone, no_way_back)],
        *[("q3", f) for f in (rate_of_one_way, rate_of_these_people)],
    ],
)
def test_a_wrong_solution_loses_points(question, wrong):
    assert failed(question, wrong)


@pytest.mark.parametrize("question", ["q1", "q2", "q3"])
def test_the_reference_passes(question):
    (function,) = reference(ROOT, "lab07", question).values()
    assert failed(question, function) == []


def test_the_figures_of_the_text_hold():
    """An H100's ridge, and from when on the bus is done before the car."""
    h100 = device("H100")
    ridge = h100.half_peak() / h100.memory_bytes_per_s
    assert f"ridge\n# {ridge:.0f}," in SOURCE.read_text("utf-8")
    car, bus = (lambda n: (2 * -(-n // 4) - 1) * 10), (lambda n: (2 * -(-n // 60) - 1) * 40)
    assert [n for n in range(1, 200) if car(n) <= bus(n)] == list(range(1, 9))
    assert "from nine people on" in SOURCE.read_text("utf-8")
