"""Luck gives no points in HW1: for the seed that grades and others, equal code earns equal points.

The solution passes with each of four seeds, and each wrong solution fails the same tests with three of them.
Some tests draw their inputs anew in each grading. What such a draw meets only now and then must also stand in
a fixed case, or the same error costs one student points and another none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autograder.assignment import load_assignment
from autograder.local import LocalSession
from autograder.notebook import code_cells
from autograder.run_tests import run_tests
from autograder.verify import mutant_kills

HW1 = Path(__file__).resolve().parents[2] / "assignments" / "hw1"
ASSIGNMENT = load_assignment(HW1)
CELLS = [
    compile(cell, "<hw1>", "exec")
    for cell in code_cells((HW1 / "hw1.py").read_bytes(), ".py")
    if cell.startswith(("import itertools", "from", "def", "@dataclass", "FORMULAS", "class"))
]
# The tests of these questions draw at random; the others cannot depend on a seed.
RANDOM = ("q1a", "q1c", "q2a", "q2c", "q3a", "q3b", "q3c", "q3d", "q4a", "q4b", "q4c", "q4d", "q5b", "q5c")
SEEDS = (ASSIGNMENT.seed(), 1, 20, 300)
WRONG = [
    (path, question)
    for path in sorted((HW1 / "mutants").glob("*.py"))
    for question in mutant_kills(path.read_text(encoding="utf-8"))
    if question in RANDOM
]


pytestmark = pytest.mark.slow


def failing(namespace: dict[str, Any], question: str, seed: int) -> set[str]:
    """The names of a question's tests that fail, one file of tests each for public and hidden."""
    paths = [p for p in (*ASSIGNMENT.public, *ASSIGNMENT.hidden) if p.stem == f"test_{question[:2]}"]
    results = run_tests(paths, LocalSession(namespace, None), seed=seed, question=question)
    assert results
    return {result.name for result in results if not result.passed}


def solution(wrong: str = "") -> dict[str, Any]:
    """The names that the solved notebook defines, some of them overwritten by a wrong solution's."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in CELLS:
        exec(cell, namespace)
    exec(wrong, namespace)
    return namespace


@pytest.mark.parametrize("seed", SEEDS)
def test_the_solution_passes_whatever_the_seed(seed):
    paths = (*ASSIGNMENT.public, *ASSIGNMENT.hidden)
    results = run_tests(paths, LocalSession(solution(), None), seed=seed)
    assert {r.question for r in results} >= set(RANDOM)
    assert {r.name: r.message for r in results if not r.passed} == {}


def test_all_tests_that_draw_are_among_these():
    source = "".join(p.read_text(encoding="utf-8") for p in (*ASSIGNMENT.public, *ASSIGNMENT.hidden))
    marked = source.split('@pytest.mark.question("')[1:]
    assert {text[:3] for text in marked if "(student, rng)" in text} == set(RANDOM)


@pytest.mark.parametrize(("path", "question"), WRONG, ids=[f"{p.stem}-{q}" for p, q in WRONG])
def test_a_wrong_solution_loses_the_same_points_whatever_the_seed(path, question):
    namespace = solution(path.read_text(encoding="utf-8"))
    lost = [failing(namespace, question, seed) for seed in SEEDS[:3]]
    assert lost[0]
    assert all(other == lost[0] for other in lost), lost
