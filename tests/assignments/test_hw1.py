"""HW1 itself: its models of caches hold, its leak matters, its class scores what the table says."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autograder.assignment import load_assignment
from autograder.local import LocalSession
from autograder.notebook import code_cells
from autograder.run_tests import run_tests

ROOT = Path(__file__).resolve().parents[2]
HW1 = ROOT / "assignments" / "hw1"
ASSIGNMENT = load_assignment(HW1)


@pytest.fixture(scope="module")
def solution() -> dict[str, Any]:
    """The names that the solved notebook defines, with its measurements and figures left out."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in code_cells((HW1 / "hw1.py").read_bytes(), ".py"):
        if cell.startswith(("import itertools", "from", "def", "@dataclass", "FORMULAS", "class", "CLAIMS")):
            exec(compile(cell, "<hw1>", "exec"), namespace)
    return namespace


@pytest.mark.parametrize(("n", "line", "tile"), [(32, 8, 8), (32, 8, 16), (24, 4, 12), (16, 2, 4)])
def test_a_tile_stays_exactly_where_the_formula_says(solution, n, line, tile):
    fits = (tile * tile + 3 * tile) // line + 1
    trace = solution["matmul_trace"](n, "ikj", tile)
    assert _misses(trace, line, fits) == solution["tile_misses"](n, tile, line)
    assert _misses(trace, line, fits - 1) > 1.2 * solution["tile_misses"](n, tile, line)


def test_the_chosen_tile_has_the_fewest_misses_of_all(solution):
    for n, line, capacity in [(32, 8, 64), (24, 4, 50), (24, 8, 20), (32, 4, 100)]:
        tiles = [t for t in range(line, n + 1, line) if n % t == 0]
        counted = {t: _misses(solution["matmul_trace"](n, "ikj", t), line, capacity) for t in tiles}
        assert solution["choose_tile"](n, line, capacity) == min(counted, key=lambda t: counted[t])


def test_exactly_one_claim_of_the_audit_holds(solution):
    verdicts = [verdict for _, verdict in solution["audit"]([claim[1:] for claim in solution["CLAIMS"]])]
    assert verdicts == ["too low", "too high", "right", "too low", "too low", "too high"]


def test_the_kv_claim_is_that_of_the_query_heads(solution):
    _, _, arguments, amount, _ = solution["CLAIMS"][1]
    keys = np.broadcast_to(np.float16(0), (2, 32, 16, 4 * arguments["kv_heads"], 8192, 128))
    assert keys.nbytes == amount * 2**30


def test_the_leak_matters_and_is_gone_when_mended(solution):
    fold = np.arange(150) % 5
    scores = np.empty((3, 4))
    for seed in range(3):
        x, y = solution["noisy_tumours"](seed)
        mixed = np.random.default_rng(seed).permutation(y)
        protocols = (solution["colleague_score"], solution["mended_score"])
        scores[seed] = [
            score(x, labels, 20, fold) for score, labels in itertools.product(protocols, (y, mixed))
        ]
    proud, proud_mixed, honest, honest_mixed = scores.mean(axis=0)
    assert proud > 0.78
    assert proud_mixed > 0.7
    assert proud - honest > 0.12
    assert abs(honest_mixed - 0.5) < 0.1


def _misses(trace: list[int], line: int, capacity: int) -> int:
    """An LRU cache as time stamps: the oldest goes."""
    last: dict[int, int] = {}
    misses = 0
    for now, address in enumerate(trace):
        number = address // line
        misses += number not in last
        if number not in last and len(last) == capacity:
            del last[min(last, key=last.__getitem__)]
        last[number] = now
    return misses


def nothing(*_):
    return None


def product_at_once(a, b, tile, multiply=np.matmul):
    return a @ b


def product_transposed(a, b, tile, multiply=np.matmul):
    return (a @ b).T


def merged_well(runs, drop):
    newest = {}
    for run in reversed(runs):
        newest.update(run)
    return [(k, v) for k, v in sorted(newest.items()) if not (drop and v is None)]


def folds_in_turn(groups, n_folds):
    return np.unique(groups, return_inverse=True)[1] % n_folds


def trace_without_tiles(n, order, tile):
    steps = itertools.product(range(n), repeat=3)
    return [w for i, j, k in steps for w in (i * n + k, n * n + k * n + j, 2 * n * n + i * n + j)]


@pytest.mark.parametrize(
    ("question", "name", "wrong", "said"),
    [
        ("q1b", "matmul_trace", nothing, "matmul_trace returned None (is there a return?)"),
        ("q1b", "matmul_trace", trace_without_tiles, "step 2 (the first is 0) is i=0, j=0, k=2"),
        ("q1c", "blocked_matmul", nothing, "blocked_matmul returned None (is there a return?)"),
        ("q1c", "blocked_matmul", product_at_once, "did not go through `multiply`"),
        ("q1c", "blocked_matmul", product_transposed, "of 16 values differ"),
        ("q4d", "group_folds", nothing, "group_folds returned None (is there a return?)"),
        ("q4d", "group_folds", folds_in_turn, "the folds have [40, 4] rows"),
        ("q3a", "bloom_size", lambda count, rate: (9586.0, 7.0), "bits and hashes are two ints"),
        ("q3d", "merge_runs", lambda runs, drop: [], "this fails because merge_runs (q3b) does"),
        ("q3d", "merge_runs", merged_well, "write 192 entries, got 0"),
        (
            "q4b",
            "fold_scores",
            lambda *_: [0.5, 0.5, 0.25],
            "an array of floats (np.array of the list), got a",
        ),
    ],
)
def test_a_public_test_names_what_went_wrong(question, name, wrong, said):
    functions = {"replay": nothing, name: wrong}
    results = run_tests(ASSIGNMENT.public, LocalSession(functions, None), seed=3, question=question)
    assert any(said in r.message for r in results), [r.message for r in results]
