"""Checks of lab 01: against brute force over all subsets, and against counts made by hand."""

import re

import numpy as np
import pytest

from autograder.compare import close


def undominated(points):
    """By the definition, pair by pair."""
    table = np.array(points, dtype=float)
    keep = []
    for i in range(len(table)):
        no_worse = (table <= table[i]).all(axis=1)
        better = (table < table[i]).any(axis=1)
        if not (no_worse & better).any():
            keep.append(i)
    return keep


def ask_pareto(student, points):
    found = student.pareto(points)
    assert isinstance(found, list | tuple), f"a list of indices is asked for, got {type(found).__name__}"
    shown = points if len(points) < 10 else f"{len(points)} points"
    close([int(i) for i in found], undominated(points), input={"points": shown})


@pytest.mark.question("q1")
@pytest.mark.points(2)
def test_two_columns(student, rng):
    """Random points in two columns: exactly those that nobody dominates, in order"""
    ask_pareto(student, [[1, 3], [2, 2], [3, 1], [3, 3], [2, 3]])
    for n in (2, 7, 40):
        ask_pareto(student, rng.normal(size=(n, 2)).tolist())


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_one_three_and_four_columns(student, rng):
    """As many columns as there are; one column leaves its least value"""
    ask_pareto(student, [[3], [1], [2]])
    ask_pareto(student, [[1, 1, 3], [1, 2, 2], [2, 2, 3]])
    for d in (3, 4):
        ask_pareto(student, rng.integers(0, 5, size=(30, d)).tolist())


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_equal_points_stay_and_a_tie_in_one_column_does_not(student, rng):
    """Equal points both stay, equal in one column and worse in the other goes; no points, no answer"""
    ask_pareto(student, [[1, 1], [1, 1]])
    ask_pareto(student, [[1, 1], [1, 2]])
    ask_pareto(student, [[2, 1], [1, 1], [1, 2], [1, 1]])
    ask_pareto(student, rng.integers(0, 3, size=(12, 2)).tolist())
    close(list(student.pareto([])), [], input={"points": []})


KEYS = ("accuracy", "latency_ms", "power_w", "cost_usd")


def row(*values):
    return dict(zip(KEYS, map(float, values), strict=True))


def within(candidate, limits):
    for name, limit in limits.items():
        beyond = limit - candidate[name] if name == "accuracy" else candidate[name] - limit
        if beyond > 0:
            return False
    return True


def cheapest(candidates, limits):
    costs = [(c["cost_usd"], -c["accuracy"], i) for i, c in enumerate(candidates) if within(c, limits)]
    return min(costs)[2] if costs else None


def to_blame(candidates, limits):
    if cheapest(candidates, limits) is not None:
        return []
    without = {k: {n: v for n, v in limits.items() if n != k} for k in limits}
    return [k for k in limits if cheapest(candidates, without[k]) is not None]


def ask_solve(student, candidates, limits, part):
    found = student.solve(candidates, limits)
    assert isinstance(found, tuple | list) and len(found) == 2, (  # noqa: PT018
        f"a pair (choice, binding) is asked for, got {found!r}"
    )
    shown = {"candidates": candidates if len(candidates) < 5 else len(candidates), "limits": limits}
    if part == "choice":
        expected = cheapest(candidates, limits)
        assert (found[0] is None) == (expected is None), (
            f"expected choice {expected}, got {found[0]}; {shown}"
        )
        if expected is not None:
            whole = isinstance(found[0], int | np.integer)
            assert whole, f"the choice is an index such as {expected}, got {found[0]!r:.60}"
            chosen = candidates[expected], candidates[int(found[0])]
            same = all(chosen[0][k] == chosen[1][k] for k in ("cost_usd", "accuracy"))
            assert same and within(chosen[1], limits), (  # noqa: PT018
                f"expected candidate {expected}, {chosen[0]}, got {found[0]}, {chosen[1]}; limits {limits}"
            )
    else:
        expected = to_blame(candidates, limits)
        assert list(found[1]) == expected, f"expected binding {expected}, got {found[1]}; {shown}"


FOUR = [row(70, 10, 2, 60), row(76, 50, 2, 60), row(77, 15, 10, 99), row(83, 25, 25, 249)]


def random_rows(rng, n):
    return [row(*values) for values in rng.integers(1, 6, size=(n, 4))]


def random_limits(rng):
    chosen = [k for k in KEYS[:3] if rng.random() < 0.75]
    return {k: float(rng.integers(1, 6)) for k in rng.permutation(chosen).tolist()}


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_the_cheapest_that_keeps_all_limits(student):
    """A value on its limit counts; accuracy is a least value; no limits, no matter"""
    ask_solve(student, FOUR, {"accuracy": 76.0, "latency_ms": 50.0}, "choice")
    ask_solve(student, FOUR, {"accuracy": 77.0, "latency_ms": 20.0, "power_w": 10.0}, "choice")
    ask_solve(student, FOUR, {}, "choice")
    ask_solve(student, FOUR, {"accuracy": 80.0, "power_w": 5.0}, "choice")


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_equal_costs_and_many_random_demands(student, rng):
    """Of equal costs the most accurate, also where many candidates are equal"""
    ask_solve(
        student, [row(80, 5, 2, 60), row(90, 1, 1, 60), row(70, 9, 9, 10)], {"accuracy": 75.0}, "choice"
    )
    for n in (1, 5, 30):
        for _ in range(15):
            ask_solve(student, random_rows(rng, n), random_limits(rng), "choice")


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_the_limits_to_blame(student):
    """Each limit that alone is in the way, in the order of the limits; none where a choice is left"""
    ask_solve(student, FOUR, {"power_w": 5.0, "accuracy": 76.0, "latency_ms": 20.0}, "binding")
    ask_solve(student, FOUR, {"accuracy": 90.0, "latency_ms": 30.0}, "binding")
    ask_solve(student, FOUR, {"accuracy": 70.0}, "binding")


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_two_limits_at_once(student, rng):
    """Where no single limit is enough nothing is blamed; random demands"""
    ask_solve(student, FOUR, {"accuracy": 90.0, "power_w": 1.0}, "binding")
    for n in (1, 3, 8):
        for _ in range(20):
            ask_solve(student, random_rows(rng, n), random_limits(rng), "binding")


#: By hand: sixteen bytes; 68,976,648,192 parameters; 6,738,415,616 of them, and two times 32 layers of 4,096
#: numbers of two bytes for each of 32 x 4,096 tokens; 0.8 and 3 USD in geometric mean; 2,039 and 460.8 GB/s;
#: 25,557,032 parameters.
RIGHT = (
    16.0,
    68_976_648_192 * 2 / 1e9,
    (6_738_415_616 * 2 + 2 * 32 * 4096 * 2 * 32 * 4096) / 1e9,
    1024 * 34 * 24 * (0.8 * 3.0) ** 0.5 / 1e6,
    1024 * 34 * 24 / 1e3,
    2039 / 460.8,
    25_557_032 * 4 / 1e6,
)


CLAIMS = (
    *("Adam's bytes per parameter", "Llama-2-70B in 16 bits", "Llama-2-7B serving"),
    *("GPT-3's million USD", "GPT-3's GPU-hours", "A100 over CPU", "ResNet-50"),
)


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_each_claim_is_computed(student):
    """The seven numbers, in the order of the claims"""
    found = student.audit()
    assert isinstance(found, list | tuple), (
        f"a list of seven numbers is asked for, got {type(found).__name__}"
    )
    assert len(found) == 7, f"seven numbers are asked for, got {len(found)}"
    off = [
        name
        for name, value, right in zip(CLAIMS, found, RIGHT, strict=True)
        if not abs(float(value) / right - 1) <= 0.02  # 70 billion times two bytes will do
    ]
    assert not off, f"more than 2 % off: {', '.join(off)}"


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_the_letter_is_complete(student):
    """60 to 200 words that name data, model and system, and three numbers with their units"""
    text = student.letter()
    assert isinstance(text, str), f"a text is asked for, got {type(text).__name__}"
    words = re.findall(r"[^\W\d_]+", text.lower())
    assert 60 <= len(text.split()) <= 200, f"60 to 200 words are asked for, got {len(text.split())}"
    assert len(set(words)) >= 30, "the same words over and over are no letter"
    missing = [w for w in ("data", "model", "system") if w not in words and f"{w}s" not in words]
    assert not missing, f"the letter does not name: {', '.join(missing)}"
    numbers = set(
        re.findall(r"\d[\d.,]*\s?(?:%|ms\b|W\b|watts?\b|USD\b|labels?\b|points?\b|bits?\b|kB\b|MB\b)", text)
    )
    assert len(numbers) >= 3, (
        f"three numbers with a unit are asked for, got {len(numbers)}: {sorted(numbers)}"
    )
