"""Part 3, the optimiser: sums over the whole history instead of running averages."""

import math

import numpy as np
import pytest

from autograder.compare import close


@pytest.mark.question("q3a")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_norms_of_all_kinds(student, rng):
    """Random lists in both precisions, arrays without axes and without elements, norms of exactly the limit"""
    for dtype, limit in [("float32", 0.5), ("float64", 2.0), ("float64", 1e6)]:
        given = [rng.normal(size=s).astype(dtype) for s in ((3, 2), (), (0, 4), (7,))]
        flat = [float(v) for g in given for v in g.ravel()]
        norm = math.sqrt(math.fsum(v * v for v in flat))
        clipped, got = student.clip(given, limit)
        close(got, norm, rtol=1e-6)
        assert [(np.shape(c), c.dtype) for c in clipped] == [(g.shape, g.dtype) for g in given]
        for c, g in zip(clipped, given, strict=True):
            close(c, g * min(1.0, limit / norm), rtol=1e-5)
    clipped, got = student.clip([np.array([3.0]), np.array([4.0])], 5.0)
    close(got, 5.0)
    close(list(clipped), [np.array([3.0]), np.array([4.0])])


@pytest.mark.question("q3a")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_nothing_zero_huge_and_nan(student):
    """An empty list, zeros, a float32 whose square is none; beside a NaN every number as it was"""
    close(student.clip([], 1.0), ([], 0.0))
    clipped, norm = student.clip([np.zeros(3, np.float32)], 1.0)
    close(norm, 0.0)
    close(clipped[0], np.zeros(3))
    clipped, norm = student.clip([np.float32([1e30]), np.float32([-1e30])], 2.0)
    close(norm, 2**0.5 * 1e30, rtol=1e-6)
    close(clipped[1], np.array([-(2**0.5)]), rtol=1e-6)
    clipped, norm = student.clip([np.array([1.0, np.nan]), np.array([2.0])], 1.0)
    close(norm, math.nan)
    close(list(clipped), [np.array([1.0, np.nan]), np.array([2.0])])
    clipped, norm = student.clip([np.float32([30.0]), np.float32([np.nan, -7.0])], 0.5)
    close(norm, math.nan)
    close(list(clipped), [np.array([30.0]), np.array([np.nan, -7.0])])


def history(start, given, lr, betas, eps, decay):
    """Parameters after each update, from the whole history of gradients: no running averages."""
    p, seen, found = start.astype(float), [], []
    for g in given:
        if g is not None:
            seen.append(g.astype(float))
            t = len(seen)
            m = sum((1 - betas[0]) * betas[0] ** (t - i) * old for i, old in enumerate(seen, 1))
            v = sum((1 - betas[1]) * betas[1] ** (t - i) * old**2 for i, old in enumerate(seen, 1))
            step = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
            p = p * (1 - lr * decay) - lr * step
        found.append(p)
    return found


@pytest.mark.question("q3b")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_updates_from_the_whole_history(student, rng):
    """Seven updates of four parameters, with other betas, rates, epsilons and decays"""
    shapes = [(2, 3), (), (4,), (0, 2)]
    for lr, betas, eps, decay in [(0.1, (0.9, 0.99), 1e-8, 0.01), (1.0, (0.5, 0.0), 0.1, 0.3), (0.01, (0.0, 0.9), 1e-3, 0.0)]:
        p = [np.asarray(rng.normal(size=s)) for s in shapes]
        given = [[np.asarray(rng.normal(size=s)) for s in shapes] for _ in range(7)]
        expected = [history(p[i], [g[i] for g in given], lr, betas, eps, decay) for i in range(4)]
        state = {}
        for update, g in enumerate(given):
            p, state = student.adamw(p, g, state, lr, betas, eps, decay)
            for i in range(4):
                close(p[i], expected[i][update], rtol=1e-8, atol=1e-12)


@pytest.mark.question("q3b")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_two_updates_from_one_state_are_the_same(student, rng):
    """What adamw was given as state is as before: a second call from it gives what the first gave"""
    p = [rng.normal(size=s) for s in ((2, 3), (4,), (2,))]
    first = [rng.normal(size=(2, 3)), rng.normal(size=4), None]
    second = [rng.normal(size=(2, 3)), None, rng.normal(size=2)]
    once, again = student.twice_from_one_state(p, first, second)
    for i in range(3):
        given = [g for g in (first[i], second[i]) if g is not None]
        expected = history(p[i], given, 0.1, (0.9, 0.999), 1e-8, 0.01)[-1]
        close(once[i], expected, rtol=1e-8)
        close(again[i], expected, rtol=1e-8)


@pytest.mark.question("q3b")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_parameters_that_are_trained_now_and_then(student, rng):
    """Gradients of None come and go; each parameter counts its own updates"""
    pattern = [(1, 0), (0, 1), (1, 1), (0, 0), (0, 1), (1, 1)]
    p = [rng.normal(size=2), rng.normal(size=3)]
    given = [
        [rng.normal(size=a.shape) if use else None for a, use in zip(p, uses, strict=True)] for uses in pattern
    ]
    expected = [history(p[i], [g[i] for g in given], 0.1, (0.9, 0.999), 1e-8, 0.2) for i in range(2)]
    state = {}
    for update, g in enumerate(given):
        p, state = student.adamw(p, g, state, 0.1, weight_decay=0.2)
        for i in range(2):
            close(p[i], expected[i][update], rtol=1e-8)


@pytest.mark.question("q3b")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_adamw_in_single_precision(student, rng):
    """float32 stays float32 over many updates, also with rates and betas that are NumPy numbers; NaN stays seen"""
    p, given = [rng.normal(size=4).astype(np.float32)], [rng.normal(size=4).astype(np.float32) for _ in range(20)]
    rate = np.float64(0.05)
    expected, state = history(p[0], given, 0.05, (0.9, 0.999), 1e-8, 0.01), {}
    for update, g in enumerate(given):
        p, state = student.adamw(p, [g], state, rate)
        assert p[0].dtype == np.float32
        close(p[0], expected[update], rtol=1e-4, atol=1e-5)
    p, _ = student.adamw(p, [np.float32([np.nan, 1, 1, 1])], state, rate)
    close(np.isnan(p[0]), np.array([True, False, False, False]))


@pytest.mark.question("q3c")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_other_schedules(student):
    """No warmup, one step of it, a floor of 0, steps far beyond the end"""
    for peak, warmup, total, floor in [(1.0, 0, 10, 0.0), (0.3, 1, 2, 0.1), (2.0, 5, 105, 0.5)]:
        for step in [*range(12), 50, 104, 105, 106, 10_000]:
            if step < warmup:
                expected = peak / warmup * (step + 1)
            elif step >= total:
                expected = floor
            else:  # cos squared of half the angle
                expected = floor + (peak - floor) * math.cos(math.pi / 2 * (step - warmup) / (total - warmup)) ** 2
            close(student.learning_rate(step, peak, warmup, total, floor), expected, rtol=1e-9, atol=1e-12)
