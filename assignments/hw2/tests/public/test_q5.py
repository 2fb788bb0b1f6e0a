"""Part 5, checkpoints: a chain of four steps by hand, plans that must be kept, runs that are written down."""

import numpy as np
import pytest

from autograder.compare import close

SIZES, COSTS = [10, 20, 30, 40, 50], [0, 1, 2, 3, 4]


@pytest.mark.question("q5a")
@pytest.mark.points(2)
def test_a_chain_of_four_by_hand(student):
    """The chain of the text with no, one, two and all values kept"""
    for kept, cost in [([2], (80, 4)), ([], (100, 6)), ([1], (100, 5)), ([3, 1], (70, 2)), ([1, 2, 3], (100, 0))]:
        close(student.plan_cost(SIZES, COSTS, kept), cost, input=(SIZES, COSTS, kept))


@pytest.mark.question("q5a")
@pytest.mark.points(1)
def test_equal_values_in_equal_segments(student):
    """16 equal steps in segments of 4: 4 starts and 3 values more, and 12 steps again"""
    sizes, costs = [5] * 17, [0] + [2] * 16
    for kept, cost in [([4, 8, 12], (35, 24)), ([8], (45, 28)), (list(range(1, 16)), (80, 0))]:
        close(student.plan_cost(sizes, costs, kept), cost, input=(sizes, costs, kept))
    close(student.plan_cost([7, 9], [0, 5], []), (7, 0), input=([7, 9], [0, 5], []))


def held_at_most(sizes, kept):
    """The peak, by adding up what is there for each step that is gone back through."""
    starts, n = [0, *sorted(kept)], len(sizes) - 1
    peak = 0
    for step in range(1, n + 1):
        start = max(s for s in starts if s < step)
        end = min([s for s in starts if s >= step], default=n)
        there = {s for s in starts if s <= start} | set(range(start, end))
        peak = max(peak, sum(sizes[value] for value in there))
    return peak


EVEN = [1] * 10, [0] + [1] * 9
UNEVEN = [4, 9, 1, 8, 2, 7, 3, 6], [0, 5, 1, 9, 2, 8, 3, 4]
#: A chain, a budget, and the fewest extra operations of any plan within it.
PLANS = [
    (EVEN, 9, 0), (EVEN, 6, 3), (EVEN, 4, 5), (EVEN, 3, None), (UNEVEN, 34, 0), (UNEVEN, 25, 5),
    (UNEVEN, 20, 14), (UNEVEN, 14, 22), (UNEVEN, 13, None),
]  # fmt: skip


@pytest.mark.question("q5b")
@pytest.mark.points(2)
def test_the_cheapest_plan_within_a_budget(student):
    """Budgets for two chains: the peak keeps within, the extra operations are as few as stored here"""
    for (sizes, costs), budget, fewest in PLANS:
        kept = student.choose_kept(sizes, costs, budget)
        if fewest is None:
            assert kept is None, f"no plan keeps within {budget}, got {kept}"
            continue
        assert isinstance(kept, list | tuple), f"a budget of {budget} can be kept, got {kept}"
        close(list(kept), sorted(set(kept) & set(range(1, len(sizes) - 1))), input=(sizes, costs, budget))
        peak = held_at_most(sizes, kept)
        assert peak <= budget, f"{sizes}, budget {budget}: the plan {kept} holds {peak}"
        extra = sum(costs[1:-1]) - sum(costs[i] for i in kept)
        assert extra == fewest, f"{sizes}, {costs}, budget {budget}: {kept} costs {extra}, {fewest} would do"


class Chain:
    """x -> x * 2 + i in each step; notes who was called in which order, and what was wrong with it."""

    def __init__(self):
        self.calls, self.wrong = [], []

    def given(self, value, place, call):
        if not np.array_equal(value, self.values[place]):
            self.wrong.append(f"{call} takes value {place}, {self.values[place]}; got {value}")

    def forward(self, i, value):
        self.calls.append(("forward", i))
        self.given(value, i - 1, f"forward({i}, value)")
        return self.values[i].copy()

    def backward(self, i, value, g):
        self.calls.append(("backward", i))
        self.given(value, i - 1, f"backward({i}, value, gradient)")
        return g * 2

    def seed(self, value):
        self.calls.append(("seed", 0))
        self.given(value, -1, "seed(value)")
        return np.ones_like(self.values[0])

    def run(self, student, x, n, kept):
        self.values = [x]
        for step in range(n):
            self.values.append(self.values[-1] * 2 + step + 1)
        got = student.checkpointed(
            lambda i, value: self.forward(i, value),
            lambda i, value, g: self.backward(i, value, g),
            lambda value: self.seed(value),
            x, n, kept,
        )  # fmt: skip
        assert isinstance(got, list | tuple), f"expected (value n, gradient), got {type(got).__name__}"
        assert not self.wrong, f"n = {n}, kept = {kept}: {self.wrong[0]}"
        close(tuple(got), (self.values[-1], np.full_like(x, 2.0**n)), input=(n, kept))
        return self.calls


@pytest.mark.question("q5c")
@pytest.mark.points(1)
def test_a_plan_is_run_as_it_says(student):
    """Each step runs once forward, and once more where its value is not kept"""
    for n, kept in [(6, [3]), (6, []), (6, [4, 2]), (5, [1, 2, 3, 4]), (1, [])]:
        calls = Chain().run(student, np.array([1.0, -2.0]), n, kept)
        again = [i for i in range(1, n) if i not in kept]
        said = f"n = {n}, kept = {kept}: "
        forward = sorted(i for name, i in calls if name == "forward")
        wanted = sorted([*range(1, n + 1), *again])
        assert forward == wanted, f"{said}the forward steps that should run are {wanted}, got {forward}"
        backward = [i for name, i in calls if name == "backward"]
        assert backward == list(range(n, 0, -1)), f"{said}backward goes from {n} to 1, got {backward}"


@pytest.mark.question("q5c")
@pytest.mark.points(1)
def test_a_segment_is_computed_again_when_its_turn_has_come(student):
    """Six steps, value 3 kept, call by call"""
    calls = Chain().run(student, np.ones(1), 6, [3])
    shown = " ".join(f"{name[0]}{i}" for name, i in calls if name != "seed")
    wanted = "f1 f2 f3 f4 f5 f6 f4 f5 b6 b5 b4 f1 f2 b3 b2 b1"
    close(shown, wanted, input="forward and backward steps in order")


@pytest.mark.question("q5c")
@pytest.mark.points(1)
def test_what_is_held_is_what_the_plan_says(student):
    """measured_peak of 64 steps: the values that the plan holds, and at most 6 for gradients and the like"""
    for kept in (list(range(8, 64, 8)), list(range(32, 64)), []):
        plan = held_at_most([1] * 65, kept)
        got = student.measured_peak(kept, 64, 4096)
        assert isinstance(got, float), f"measured_peak gives a number, got {got}"
        shown = f"{kept[0]} to {kept[-1]}" if len(kept) > 9 else kept
        assert got <= plan + 6, f"n = 64, kept = {shown}: the plan holds {plan} values, yours held {got:.0f} at once"
