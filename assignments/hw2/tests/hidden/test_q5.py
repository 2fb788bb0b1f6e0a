"""Part 5, checkpoints: every plan of small chains, held to a simulation that puts values in and takes them out."""

import itertools

import numpy as np
import pytest

from autograder.compare import close


def simulated(sizes, costs, kept):
    """Peak and extra operations of a plan: what lies in memory, event by event."""
    n = len(sizes) - 1
    memory, extra, peak, ahead = {0, *kept}, 0, 0, n
    while ahead > 0:
        start = max(v for v in memory if v < ahead)
        for value in range(start + 1, ahead):
            memory.add(value)
            extra += costs[value]
        peak = max(peak, sum(sizes[v] for v in memory))
        memory -= set(range(start, ahead))
        ahead = start
    return peak, extra


def plans(n):
    return [list(p) for count in range(n) for p in itertools.combinations(range(1, n), count)]


@pytest.mark.question("q5a")
@pytest.mark.points(2)
@pytest.mark.hidden
def test_all_plans_of_random_chains(student, rng):
    """Every plan of random chains, kept values in any order, large numbers"""
    for n in (1, 2, 5, 6):
        sizes = [int(s) for s in rng.integers(0, 10**12, n + 1)]
        costs = [0, *(int(c) for c in rng.integers(0, 10**9, n))]
        for kept in plans(n):
            kept = [int(k) for k in rng.permutation(kept)]
            close(student.plan_cost(sizes, costs, kept), simulated(sizes, costs, kept))


@pytest.mark.question("q5b")
@pytest.mark.points(2)
@pytest.mark.hidden
def test_no_plan_is_better(student, rng):
    """Random chains and budgets: as cheap as the best of all plans, None exactly where there is none"""
    for n in (1, 2, 7, 8, 12):
        sizes = [int(s) for s in rng.integers(1, 30, n + 1)]
        costs = [0, *(int(c) for c in rng.integers(1, 50, n))]
        all_costs = [simulated(sizes, costs, kept) for kept in plans(n)]
        peaks = sorted({peak for peak, _ in all_costs})
        for budget in (peaks[0] - 1, peaks[0], peaks[len(peaks) // 3], peaks[-1]):
            fewest = min((extra for peak, extra in all_costs if peak <= budget), default=None)
            kept = student.choose_kept(sizes, costs, budget)
            assert (kept is None) == (fewest is None)
            if kept is not None:
                close(list(kept), sorted(set(kept) & set(range(1, n))))
                peak, extra = simulated(sizes, costs, [int(k) for k in kept])
                assert peak <= budget
                close(extra, fewest)
    # Where every plan without a kept value is within budget, an empty plan may be the only one.
    close(student.choose_kept([3, 4], [0, 1], 3), [])


@pytest.mark.question("q5c")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_any_plan_of_any_chain(student, rng):
    """Random plans: the right values at each step, each computed as often and as late as the plan says"""
    for n, count in [(1, 0), (2, 1), (9, 3), (12, 0), (12, 11), (30, 5)]:
        kept = [int(k) for k in rng.permutation(np.arange(1, n))[:count]]
        x, w = rng.normal(size=3).astype(np.float32), rng.normal(size=(n + 1, 3)).astype(np.float32)
        true = [x]
        for i in range(1, n + 1):
            true.append(np.tanh(true[-1]) + w[i])
        calls, wrong = [], []

        def forward(i, value, calls=calls, wrong=wrong, true=true, w=w):
            wrong.append(not np.array_equal(value, true[i - 1]))
            calls.append(i)
            return np.tanh(value) + w[i]

        def backward(i, value, g, calls=calls, wrong=wrong, true=true):
            wrong.append(not np.array_equal(value, true[i - 1]))
            calls.append(-i)
            return g * (1 - np.tanh(value) ** 2)

        def seed(value, calls=calls):
            calls.append(0)
            return 2 * value

        value, g = student.checkpointed(forward, backward, seed, x, n, kept)
        assert not any(wrong)
        slope = np.prod([1 - np.tanh(true[i].astype(float)) ** 2 for i in range(n)], axis=0)
        close(value, true[-1])
        close(g, 2 * true[-1] * slope, rtol=1e-4, atol=1e-6)
        expected, starts = [*range(1, n + 1), 0], [0, *sorted(kept), n]
        for start, end in reversed(list(itertools.pairwise(starts))):
            expected += [*range(start + 1, end), *range(-end, -start)]
        close(calls, expected)
