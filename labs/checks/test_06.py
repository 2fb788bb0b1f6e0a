"""Checks of lab 06: loops over pairs, float64 softmax of all scores at once, and a memory that counts."""

import numpy as np
import pytest

from autograder.compare import close


def seen_by_loops(q_at, k_at, window=None):
    """The definition, pair by pair."""
    seen = np.zeros((len(q_at), len(k_at)), dtype=bool)
    for i, query in enumerate(q_at):
        for j, key in enumerate(k_at):
            seen[i, j] = key <= query and (window is None or key > query - window)
    return seen


def hold_mask(student, q_at, k_at, window=None):
    given = {"q_at": q_at, "k_at": k_at, "window": window}
    mask = student.visible(q_at, k_at) if window is None else student.visible(q_at, k_at, window)
    assert getattr(mask, "dtype", None) == np.bool_, f"an array of booleans is asked for, got {mask!r:.80}"
    close(mask, seen_by_loops(q_at, k_at, window), input=given)


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_a_position_sees_itself_and_what_came_before(student):
    """Six positions against themselves, and one alone."""
    for n in (6, 1):
        hold_mask(student, np.arange(n), np.arange(n))


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_positions_and_not_places_decide(student, rng):
    """The last queries against a whole cache, a tile in the middle, keys in any order."""
    hold_mask(student, np.arange(5, 8), np.arange(8))
    hold_mask(student, np.arange(4, 8), np.arange(6, 12))
    hold_mask(student, np.arange(3), np.arange(10, 14))
    hold_mask(student, rng.permutation(20)[:5], rng.permutation(20)[:7])


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_a_window_counts_its_own_position(student):
    """Windows of 1, 3 and more than there is, also for a tile."""
    for window in (1, 3, 50):
        hold_mask(student, np.arange(7), np.arange(7), window)
        hold_mask(student, np.arange(20, 24), np.arange(17, 25), window)


def fold_all(student, scores, values, sizes):
    """The student's state after blocks of the given sizes."""
    n, d = len(scores), values.shape[1]
    carried = np.full(n, -np.inf, scores.dtype), np.zeros(n, scores.dtype), np.zeros((n, d), scores.dtype)
    start = 0
    for size in sizes:
        carried = student.fold(carried, scores[:, start : start + size], values[start : start + size])
        assert isinstance(carried, tuple | list), f"three arrays are asked for, got {type(carried).__name__}"
        assert len(carried) == 3, f"three arrays are asked for, got {len(carried)}"
        start += size
    return carried


def state_at_once(scores, values):
    """What the state is by its definition, in float64, from all scores."""
    s = scores.astype(np.float64)
    top = s.max(1)
    weights = np.exp(s - top[:, None])
    return top, weights.sum(1), np.einsum("nb,bd->nd", weights, values.astype(np.float64))


def named(state):
    return dict(zip(("top", "total", "mixed"), state, strict=True))


@pytest.mark.question("q2")
@pytest.mark.points(2)
def test_blocks_give_what_all_scores_at_once_give(student, rng):
    """One block, equal blocks, blocks of 1, with tops that rise, fall and jump."""
    values = rng.normal(size=(12, 3))
    for sizes in ([12], [4, 4, 4], [1] * 12, [5, 1, 6]):
        for order in (1, -1):
            scores = np.sort(rng.normal(size=(5, 12)) * 4, axis=1)[:, ::order].copy()
            scores[2] = rng.permutation(scores[2])
            given = {"sizes": sizes, "scores": scores, "values": values}
            got, asked = fold_all(student, scores, values, sizes), state_at_once(scores, values)
            close(named(got), named(asked), rtol=1e-9, atol=1e-12, input=given)


def hold_result(student, scores, values):
    """The average that the state stands for."""
    _, total, mixed = fold_all(student, scores, values, [4, 4, 4])
    asked = state_at_once(scores, values)
    given = {"sizes": [4, 4, 4], "scores": scores, "values": values}
    average = np.asarray(mixed) / np.asarray(total)[:, None]
    close(average, asked[2] / asked[1][:, None], rtol=1e-4, atol=1e-5, input=given)


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_scores_that_exp_cannot_take(student, rng):
    """Scores in the thousands, above and below zero."""
    scores = rng.normal(size=(4, 12)) * 1000
    scores[0] -= 9000
    scores[1] += 9000
    hold_result(student, scores, rng.normal(size=(12, 3)))


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_hidden_scores_and_float32_that_stays_float32(student, rng):
    """Blocks hidden in part or whole, after a first block that has a visible score in each row."""
    values = rng.normal(size=(12, 3)).astype(np.float32)
    scores = rng.normal(size=(4, 12)).astype(np.float32)
    scores[1, 4:] = -np.inf
    scores[2, [0, 2, 5, 6, 7]] = -np.inf
    hold_result(student, scores, values)
    for array in fold_all(student, scores, values, [4, 4, 4]):
        assert array.dtype == np.float32, f"expected float32, got {array.dtype}"


def counted(n, d, rows, columns):
    """Bytes moved by walking over every tile, and the most held at a time, from arrays."""
    q = k = v = np.zeros((n, d), np.float32)
    moved = most = 0
    for i in range(0, n, rows):
        tile = q[i : i + rows]
        own = [tile, np.zeros_like(tile), tile[:, 0], tile[:, 0]]
        moved += tile.nbytes
        for j in range(0, n, columns):
            keys, vals = k[j : j + columns], v[j : j + columns]
            moved += keys.nbytes + vals.nbytes
            scores = np.zeros((len(tile), len(keys)), np.float32)
            most = max(most, sum(a.nbytes for a in [*own, keys, vals, scores]))
        moved += tile.nbytes
    return moved, most


def hold_bytes(student, sizes, place):
    """One of the two numbers, which the text asks for as integers."""
    number = student.tiled_bytes(*sizes)[place]
    whole = isinstance(number, int | np.integer)
    assert whole, f"an integer is asked for, got {number!r:.80} of type {type(number).__name__}"
    close(number, counted(*sizes)[place], input=sizes)


EVEN = [(128, 64, 32, 16), (96, 8, 96, 96), (64, 16, 1, 64), (64, 16, 64, 1), (256, 32, 64, 128)]
UNEVEN = [(100, 16, 32, 24), (7, 4, 5, 3), (129, 8, 64, 128), (1, 4, 1, 1)]


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_bytes_moved(student):
    """What moves, where tiles fit evenly."""
    for sizes in EVEN:
        hold_bytes(student, sizes, 0)


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_the_last_tile_may_be_smaller(student):
    """What moves, where tiles do not fit evenly."""
    for sizes in UNEVEN:
        hold_bytes(student, sizes, 0)


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_bytes_held(student):
    """What fast memory holds at its fullest, which does not grow with n."""
    for sizes in EVEN + UNEVEN:
        hold_bytes(student, sizes, 1)
