"""Lab 00: its checks pass the reference and fail wrong solutions that look right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autograder.local import LocalSession
from autograder.reference import reference
from autograder.run_tests import TestResult, run_tests

ROOT = Path(__file__).resolve().parents[2]
CHECKS = [ROOT / "labs" / "checks" / "test_00.py"]


def failed(question: str, function: Any) -> list[str]:
    """The tests of a question that a function does not pass."""
    results: list[TestResult] = run_tests(CHECKS, LocalSession({}, function), seed=7, question=question)
    assert results
    return [r.name for r in results if not r.passed]


def only_direct(counts, reads, writes):
    n = len(counts)
    late = [[j for j in range(n) if reads[i] & writes[j] and counts[j] > counts[i]] for i in range(n)]
    return [i for i in range(n) if late[i]]


def one_round(counts, reads, writes):
    stale = set()
    for i in reversed(range(len(counts))):
        for j in range(len(counts)):
            if j != i and reads[i] & writes[j] and (counts[j] > counts[i] or j in stale):
                stale.add(i)
    return sorted(stale)


def one_round_down(counts, reads, writes):
    stale = set()
    for i in range(len(counts)):
        for j in range(len(counts)):
            if j != i and reads[i] & writes[j] and (counts[j] > counts[i] or j in stale):
                stale.add(i)
    return sorted(stale)


def nothing(counts, reads, writes):
    return None


def by_position(counts, reads, writes):
    return [i for i in range(1, len(counts)) if counts[i] < counts[i - 1]]


def anything_later(counts, reads, writes):
    return [i for i, count in enumerate(counts) if count < max(counts)]


def neighbours_only(counts):
    never = [i for i, c in enumerate(counts) if c is None]
    pairs = [
        i for i in range(1, len(counts)) if None not in counts[i - 1 : i + 1] and counts[i] < counts[i - 1]
    ]
    return never, pairs, max([c for c in counts if c], default=0) - len(counts) + len(never)


def gaps_below_the_smallest_are_forgotten(counts):
    ran = [c for c in counts if c is not None]
    never, backwards, _ = reference(ROOT, "lab00", "q2")["read_counts"](counts)
    return never, backwards, max(ran) - min(ran) + 1 - len(ran) if ran else 0


def never_counts_as_zero(counts):
    _, _, lost = reference(ROOT, "lab00", "q2")["read_counts"](counts)
    zeros = [c or 0 for c in counts]
    backwards = [i for i in range(len(zeros)) if zeros[i] < max(zeros[:i], default=0)]
    return [i for i, c in enumerate(counts) if c is None], backwards, lost


kept: dict[str, Any] = {}


def keeps_its_state(sources, defaults, values):
    for i, source in enumerate(sources):
        exec(source, kept)
        if i == defaults:
            kept.update(values)
    return {k: v for k, v in kept.items() if k != "__builtins__"}


def parameters_first(sources, defaults, values):
    state = dict(values)
    for source in sources:
        exec(source, state)
    return {k: v for k, v in state.items() if k != "__builtins__"}


def parameters_last(sources, defaults, values):
    state: dict[str, Any] = {}
    for source in sources:
        exec(source, state)
    return {k: v for k, v in state.items() if k != "__builtins__"} | values


def in_its_own_globals(sources, defaults, values):
    state = dict(globals())
    for i, source in enumerate(sources):
        exec(source, state)
        if i == defaults:
            state.update(values)
    return {k: v for k, v in state.items() if k not in globals()}


@pytest.mark.parametrize("question", ["q1", "q2", "q3"])
def test_the_reference_passes(question):
    (function,) = reference(ROOT, "lab00", question).values()
    assert failed(question, function) == []


@pytest.mark.parametrize(
    ("question", "wrong", "where"),
    [
        ("q1", only_direct, "test_staleness_is_passed_on"),
        ("q1", one_round, "test_staleness_is_passed_on"),
        ("q1", one_round_down, "test_staleness_is_passed_on"),
        ("q1", nothing, "test_an_input_that_ran_later_makes_a_cell_stale"),
        ("q1", by_position, "test_an_input_that_ran_later_makes_a_cell_stale"),
        ("q1", anything_later, "test_an_input_that_ran_later_makes_a_cell_stale"),
        ("q2", neighbours_only, "test_cells_run_before_one_above"),
        ("q2", gaps_below_the_smallest_are_forgotten, "test_runs_that_no_cell_shows"),
        ("q2", never_counts_as_zero, "test_cells_run_before_one_above"),
        ("q3", keeps_its_state, "test_each_run_starts_clean"),
        ("q3", in_its_own_globals, "test_each_run_starts_clean"),
        ("q3", parameters_first, "test_parameters_replace_the_defaults"),
        ("q3", parameters_last, "test_parameters_replace_the_defaults"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_wrong_solution_loses_the_points_for_what_is_wrong(question, wrong, where):
    assert where in failed(question, wrong)


def test_what_is_right_in_a_half_right_answer_keeps_its_points():
    assert failed("q1", only_direct) == ["test_staleness_is_passed_on"]
    assert failed("q1", one_round_down) == ["test_staleness_is_passed_on"]
    assert failed("q2", gaps_below_the_smallest_are_forgotten) == ["test_runs_that_no_cell_shows"]
    assert failed("q3", parameters_last) == ["test_parameters_replace_the_defaults"]


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, np.array], ids=lambda kind: kind.__name__)
def test_stale_cells_may_come_in_any_container_of_indices(kind):
    (solution,) = reference(ROOT, "lab00", "q1").values()

    def stale_cells(counts, reads, writes):
        return kind(solution(counts, reads, writes))

    assert failed("q1", stale_cells) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "return the indices of the stale cells, such as [2], got None"),
        ([False, True], "return the indices of the stale cells, such as [2], got [False, True]"),
        (7, "return the indices of the stale cells, such as [2], got 7"),
        ([9], "the cells are 0 to 4, got [9]"),
        ([1], "expected [2], got [1] (drawn: 1 for a stale cell)"),
    ],
    ids=str,
)
def test_a_wrong_answer_about_stale_cells_is_named_as_it_came(found, said):
    def stale_cells(counts, reads, writes):
        return found

    results: list[TestResult] = run_tests(CHECKS, LocalSession({}, stale_cells), seed=7, question="q1")
    assert said in str(results[0].message)
