"""Attention by tiles, as it is told: held to torch, to the logsumexp so far, and to counted bytes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mlsys_lab import viz


def line(shape: viz.Shape, start: str) -> str:
    """What a box says after a word."""
    return next(t.removeprefix(start) for t in shape.lines if t.startswith(start))


def numbers(text: str) -> np.ndarray:
    return np.array([float(x) for x in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?|-?inf", text)])


def some(*shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def attend(n=8, d=4, rows=4, columns=2, seed=0):
    q, k, v = some((n, d), (n, d), (n, d), seed=seed)
    return q, k, v, viz.attention_steps(q, k, v, rows=rows, columns=columns)


tiles = pytest.mark.parametrize(
    ("n", "d", "rows", "columns"),
    [(8, 4, 4, 2), (8, 4, 2, 4), (7, 3, 3, 2), (5, 2, 1, 1), (4, 2, 9, 9), (6, 1, 2, 6), (1, 1, 1, 1)],
)


@tiles
def test_the_stored_rows_are_torchs_causal_attention(n, d, rows, columns):
    torch = pytest.importorskip("torch")
    q, k, v, stepper = attend(n, d, rows, columns)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        *(torch.from_numpy(x)[None] for x in (q, k, v)), is_causal=True
    )[0].numpy()
    last = stepper.states[-1]
    drawn = [numbers(line(last[f"row{r}"], "stored ")) for r in range(n)]
    np.testing.assert_allclose(np.array(drawn), theirs, atol=6e-3)
    assert stepper.steps[-1].say.startswith("The same result")


@tiles
def test_running_maximum_and_sum_are_the_logsumexp_of_the_scores_so_far(n, d, rows, columns):
    torch = pytest.importorskip("torch")
    q, k, _, stepper = attend(n, d, rows, columns)
    scores = torch.from_numpy(q.astype(float) @ k.T.astype(float) / np.sqrt(d))
    seen = 0
    for r in range(n):
        known: set[int] = set()
        for state in stepper.states:
            known |= {c for c in range(r + 1) if state[f"cell{r}-{c}"].tone == "compute"}
            text = " ".join(state[f"row{r}"].lines)
            if text.startswith("max") and known:
                top, total = numbers(text)[:2]
                theirs = scores[r, sorted(known)].logsumexp(0).item()
                assert top + np.log(total) == pytest.approx(theirs, abs=0.02)
                seen += 1
    assert seen >= n


@tiles
def test_the_bytes_of_tiles_and_of_all_pairs_are_those_of_the_closed_form(n, d, rows, columns):
    stepper = attend(n, d, rows, columns)[-1]
    count = 0
    for i in range(0, n, rows):
        last = min(i + rows, n)
        loads = [j for j in range(0, n, columns) if j < last]
        count += 2 * (last - i) * d + 2 * d * sum(min(j + columns, n) - j for j in loads)
    state = stepper.states[-1]
    assert state["tiles"].lines == (f"tiles: {4 * count:,} B moved",)
    # q, k, v and the result once; scores stored, loaded; weights stored, loaded.
    whole = 4 * (4 * n * d + 4 * n * n)
    assert state["all"].lines == (f"all pairs stored: {whole:,} B moved",)
    assert state["tiles"].level / state["all"].level == pytest.approx(count * 4 / whole)
    assert all(0 <= s.level <= 1 for step in stepper.states for s in step.values() if s.level is not None)


def test_the_first_and_last_step_say_what_the_bytes_are():
    n, d, rows, columns = 8, 4, 4, 2
    stepper = attend(n, d, rows, columns)[-1]
    first, last = stepper.steps[0].say, stepper.steps[-1].say
    assert f"q, k, v and the result once, {4 * 4 * n * d} B" in first
    assert f"written and read again, {4 * 4 * n * n:,} B" in first
    hidden = sum(rows <= j for j in range(0, n, columns))  # tiles of keys later than the first four queries
    assert f"{hidden * columns * 2 * d * 4} B of what they save" in last
    whole = attend(n, d, rows=n, columns=columns)[-1]
    assert "of what they save" not in whole.steps[-1].say


def test_dashed_is_what_the_mask_hides_and_blue_goes_with_its_step():
    stepper = attend()[-1]
    for step, state in zip(stepper.steps, stepper.states, strict=True):
        for r in range(8):
            dashed = {c for c in range(8) if state[f"cell{r}-{c}"].tone == "idle"}
            assert all(c > r for c in dashed)
            assert all(state[f"cell{r}-{c}"].lines == ("later",) for c in dashed)
        blue = [key for key, shape in state.items() if shape.tone == "compute"]
        assert bool(blue) == ("folded in" in step.say)


def test_a_key_later_than_its_query_is_never_scored():
    stepper = attend()[-1]
    for state in stepper.states:
        for r in range(8):
            assert all(state[f"cell{r}-{c}"].tone != "compute" for c in range(r + 1, 8))


def test_attention_of_other_shapes_says_what_it_expects():
    x = np.zeros((1, 4, 2))
    with pytest.raises(ValueError, match=r"one shape \(n, d\).*take one head"):
        viz.attention_steps(x, x, x, rows=2, columns=2)
