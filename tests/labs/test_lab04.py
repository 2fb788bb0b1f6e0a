"""Lab 04: its checks pass the reference and fail wrong solutions that look right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autograder.feedback import described
from autograder.local import LocalSession
from autograder.reference import reference
from autograder.run_tests import run_tests

ROOT = Path(__file__).resolve().parents[2]
CHECKS = [ROOT / "labs" / "checks" / "test_04.py"]


def failed(question: str, function: Any) -> list[str]:
    """The tests of a question that a function does not pass."""
    results = run_tests(CHECKS, LocalSession({}, function), seed=7, question=question)
    assert results
    return [r.name for r in results if not r.passed]


def slope_after_the_step(steps, x):
    dy = 1.0
    for f, slope in steps:
        x = f(x)
        dy *= slope(x)
    return x, dy


def slopes_at_the_start(steps, x):
    y, dy = x, 1.0
    for f, slope in steps:
        dy *= slope(x)
        y = f(y)
    return y, dy


def nudged(steps, x):
    def whole(x):
        for f, _ in steps:
            x = f(x)
        return x

    return whole(x), (whole(x + 1e-8) - whole(x)) / 1e-8


def swapped(g, a, b):
    return a.T @ g, g @ b.T


def not_transposed(g, a, b):
    return g @ b, a @ g


def elementwise(g, a, b):
    return np.ones_like(a) * g.sum(), np.ones_like(b) * g.sum()


def in_double(g, a, b):
    return g.astype(np.float64) @ b.T, a.T.astype(np.float64) @ g


def mean_over_rows(g, a, b):
    return g @ b.T, a.T @ g / len(a)


def breadth_first(inputs, root):
    order = [root]
    for node in order:
        order += [i for i in dict.fromkeys(inputs[node]) if i not in order]
    return order


def by_number(inputs, root):
    return list(range(root, -1, -1))


def largest_number_first(inputs, root):
    reached, ahead = {root}, [root]
    while ahead:
        new = set(inputs[ahead.pop()]) - reached
        reached |= new
        ahead += new
    return sorted(reached, reverse=True)


def recursive(inputs, root):
    order: list[int] = []

    def visit(node):
        if node not in order:
            for i in inputs[node]:
                visit(i)
            order.append(node)

    visit(root)
    return order[::-1]


def inputs_first(inputs, root):
    return reference(ROOT, "lab04", "q3")["backward_order"](inputs, root)[::-1]


def each_use_once(inputs, root):
    order, stack = [], [root]
    while stack:
        node = stack.pop()
        order.append(node)
        stack += [i for i in inputs[node] if i not in order]
    return order


@pytest.mark.parametrize(
    ("question", "wrong"),
    [
        *(("q1", f) for f in (slope_after_the_step, slopes_at_the_start, nudged)),
        *(("q2", f) for f in (swapped, not_transposed, elementwise, in_double, mean_over_rows)),
        *(("q3", f) for f in (breadth_first, by_number, largest_number_first, recursive)),
        *(("q3", f) for f in (inputs_first, each_use_once)),
    ],
)
def test_a_wrong_solution_loses_points(question, wrong):
    assert failed(question, wrong)


def test_a_chain_that_fails_is_named_with_its_start():
    results = run_tests(CHECKS, LocalSession({}, slopes_at_the_start), seed=7, question="q1")
    first = next(r for r in results if not r.passed)
    assert described(first.mismatch)[0] == "input:    {'steps': 'square, sine', 'x': 0.5}"


@pytest.mark.parametrize("question", ["q1", "q2", "q3"])
def test_the_reference_passes(question):
    (function,) = reference(ROOT, "lab04", question).values()
    assert failed(question, function) == []
