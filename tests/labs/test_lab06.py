"""Lab 06: its checks pass the reference and fail wrong solutions that look right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autograder.feedback import described
from autograder.local import LocalSession
from autograder.pair import read_source
from autograder.reference import reference
from autograder.run_tests import run_tests
from mlsys_lab import autograd as ag

ROOT = Path(__file__).resolve().parents[2]
CHECKS = [ROOT / "labs" / "checks" / "test_06.py"]


def failed(question: str, function: Any) -> list[str]:
    """The tests of a question that a function does not pass."""
    results = run_tests(CHECKS, LocalSession({}, function), seed=7, question=question)
    assert results
    return [r.name for r in results if not r.passed]


def strict(q_at, k_at, window=None):
    back = q_at[:, None] - k_at
    return (back > 0) & (back < (window or np.inf))


def leaks(q_at, k_at, window=None):
    back = q_at[:, None] - k_at
    return (back >= -1) & (back < (window or np.inf))


def turned(q_at, k_at, window=None):
    back = k_at[:, None] - q_at
    return ((back >= 0) & (back < (window or np.inf))).T[:, ::-1]


def by_place(q_at, k_at, window=None):
    back = np.arange(len(q_at))[:, None] - np.arange(len(k_at))
    return (back >= 0) & (back < (window or np.inf))


def no_window(q_at, k_at, window=None):
    return q_at[:, None] >= k_at


def window_besides_itself(q_at, k_at, window=None):
    back = q_at[:, None] - k_at
    return (back >= 0) & (back <= (window or np.inf))


def window_both_ways(q_at, k_at, window=None):
    back = q_at[:, None] - k_at
    return back >= 0 if window is None else np.abs(back) < window


def additive(q_at, k_at, window=None):
    return np.where(no_window(q_at, k_at), 0.0, -np.inf)


def parts(state, scores):
    top, total, mixed = state
    higher = np.maximum(top, scores.max(1))
    return total, mixed, higher, np.exp(top - higher), np.exp(scores - higher[:, None])


def total_not_rescaled(state, scores, values):
    total, mixed, higher, shrink, w = parts(state, scores)
    return higher, total + w.sum(1), mixed * shrink[:, None] + w @ values


def mixed_not_rescaled(state, scores, values):
    total, mixed, higher, shrink, w = parts(state, scores)
    return higher, total * shrink + w.sum(1), mixed + w @ values


def grown(state, scores, values):
    total, mixed, higher, shrink, w = parts(state, scores)
    return higher, total / shrink + w.sum(1), mixed / shrink[:, None] + w @ values


def without_a_top(state, scores, values):
    top, total, mixed = state
    w = np.exp(scores)
    return np.maximum(top, scores.max(1)), total + w.sum(1), mixed + w @ values


def top_of_this_block(state, scores, values):
    top, total, mixed = state
    new = scores.max(1)
    w, shrink = np.exp(scores - new[:, None]), np.exp(top - new)
    return new, total * shrink + w.sum(1), mixed * shrink[:, None] + w @ values


def one_top_for_all(state, scores, values):
    top, total, mixed = state
    higher = np.maximum(top, scores.max())
    w, shrink = np.exp(scores - higher[:, None]), np.exp(top - higher)
    return higher, total * shrink + w.sum(1), mixed * shrink[:, None] + w @ values


def in_double(state, scores, values):
    return reference(ROOT, "lab06", "q2")["fold"](
        tuple(part.astype(np.float64) for part in state), scores.astype(np.float64), values
    )


def held(d, rows, columns):
    return 4 * (2 * rows * d + 2 * columns * d + rows * columns + 2 * rows)


def keys_once(n, d, rows, columns):
    return 4 * 4 * n * d, held(d, rows, columns)


def rounded_down(n, d, rows, columns):
    return 4 * (2 * n * d + n // rows * 2 * n * d), held(d, rows, columns)


def not_rounded(n, d, rows, columns):
    return 4 * (2 * n * d + int(n / rows * 2 * n * d)), held(d, rows, columns)


def passes_by_columns(n, d, rows, columns):
    return 4 * (2 * n * d - (-n // columns) * 2 * n * d), held(d, rows, columns)


def scores_stored(n, d, rows, columns):
    return 4 * (2 * n * d - (-n // rows) * 2 * n * d + n * n), held(d, rows, columns)


def results_forgotten(n, d, rows, columns):
    return 4 * (n * d - (-n // rows) * 2 * n * d), held(d, rows, columns)


def no_running_sums(n, d, rows, columns):
    return 4 * (2 * n * d - (-n // rows) * 2 * n * d), held(d, rows, columns) - 8 * rows


def all_held(n, d, rows, columns):
    return 4 * (2 * n * d - (-n // rows) * 2 * n * d), 4 * (4 * n * d + rows * columns + 2 * rows)


def numbers_not_bytes(n, d, rows, columns):
    return 2 * n * d - (-n // rows) * 2 * n * d, held(d, rows, columns) // 4


def floats(n, d, rows, columns):
    return 4.0 * (2 * n * d - (-n // rows) * 2 * n * d), float(held(d, rows, columns))


MASKS = (strict, leaks, turned, by_place, no_window, window_besides_itself, window_both_ways, additive)
FOLDS = (total_not_rescaled, mixed_not_rescaled, grown, without_a_top, top_of_this_block, one_top_for_all,
         in_double)  # fmt: skip
BYTES = (keys_once, rounded_down, not_rounded, passes_by_columns, scores_stored, results_forgotten,
         no_running_sums, all_held, numbers_not_bytes, floats)  # fmt: skip


@pytest.mark.parametrize(
    ("question", "wrong"),
    [*(("q1", f) for f in MASKS), *(("q2", f) for f in FOLDS), *(("q3", f) for f in BYTES)],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_wrong_solution_loses_points(question, wrong):
    assert failed(question, wrong)


def test_a_float_that_is_right_is_told_that_an_integer_is_asked_for():
    results = run_tests(CHECKS, LocalSession({}, floats), seed=7, question="q3")
    assert all("an integer is asked for" in r.message for r in results)


@pytest.mark.parametrize(("wrong", "part"), [(total_not_rescaled, "total"), (mixed_not_rescaled, "mixed")])
def test_a_part_of_the_state_that_is_wrong_is_named(wrong, part):
    results = run_tests(CHECKS, LocalSession({}, wrong), seed=7, question="q2")
    first = next(r for r in results if not r.passed)
    assert f"['{part}']" in first.message
    assert described(first.mismatch)[0].startswith("input:    {'sizes': [")


def cell_with(words: str) -> str:
    """The source of the lab's one code cell that has these words."""
    cells = read_source(ROOT / "labs" / "06_attention.py").cells
    (found,) = (c.source for c in cells if c.cell_type == "code" and words in c.source)
    return str(found)


def fresh(n, d, dtype=np.float32):
    return np.full(n, -np.inf, dtype), np.zeros(n, dtype), np.zeros((n, d), dtype)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("n", [1, 16, 37])
@pytest.mark.parametrize("window", [None, 1, 3, 8, 16, 40])
def test_the_tiles_of_the_lab_agree_with_all_pairs_under_any_window(n, window):
    space: dict[str, Any] = {"fold_in": reference(ROOT, "lab06", "q2")["fold"], "fresh": fresh, "np": np}
    for words in ("def plain(", "def tiled("):
        exec(cell_with(words).partition("\nmany = ")[0], space)  # without the text
    rng = np.random.default_rng(3)
    q, k, v = (ag.Tensor(rng.normal(size=(2, 2, n, 8)).astype(np.float32)) for _ in range(3))
    may_see = reference(ROOT, "lab06", "q1")["visible"](np.arange(n), np.arange(n), window)
    out, asked = (space[way](q, k, v, may_see).data for way in ("tiled", "plain"))
    np.testing.assert_allclose(out, asked, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("question", ["q1", "q2", "q3"])
def test_the_reference_passes(question):
    (function,) = reference(ROOT, "lab06", question).values()
    assert failed(question, function) == []
