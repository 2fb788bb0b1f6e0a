"""Checks of lab 00: against a replay of the session, hand-made files, and runs."""

import numpy as np
import pytest

from autograder.compare import close


def replayed(counts, reads, writes):
    """1 for each stale cell, by playing the runs: a value remembers which values it was made of."""
    order = np.argsort(counts)
    writer = {name: i for i, names in enumerate(writes) for name in names}

    def clean(i):
        return (i, tuple(clean(writer[name]) for name in sorted(reads[i]) if name in writer))

    state = dict.fromkeys(writer, "an older run")
    held = {}
    for i in order:
        held[i] = (int(i), tuple(state[name] for name in sorted(reads[i]) if name in writer))
        state |= dict.fromkeys(writes[i], held[i])
    return np.array([int(held[i] != clean(i)) for i in range(len(counts))])


def hold_stale(found, counts, reads, writes):
    """Hold the indices that came to the replay; the message names them, the drawing marks each cell 0 or 1."""
    asked = f"return the indices of the stale cells, such as [2], got {found!r}"
    if isinstance(found, np.ndarray):
        assert found.ndim == 1, asked
        assert found.dtype.kind in "iu" or found.size == 0, asked
    else:
        assert isinstance(found, list | tuple | set | frozenset), asked
    whole = [isinstance(i, int | np.integer) and not isinstance(i, bool) for i in found]
    assert all(whole), asked
    expected = replayed(counts, reads, writes)
    n, indices = len(counts), sorted(int(i) for i in found)
    assert all(0 <= i < n for i in indices), f"the cells are 0 to {n - 1}, got {found!r}"
    try:
        given = {"counts": counts, "reads": reads, "writes": writes}
        close(np.isin(np.arange(n), indices).astype(int), expected, input=given)
    except AssertionError as wrong:
        wrong.args = (f"expected {expected.nonzero()[0].tolist()}, got {found!r} (drawn: 1 for a stale cell)",)
        raise


def a_notebook(rng, n):
    """A random notebook of n cells, each reading names of cells above, run in a random order."""
    reads = [{f"x{j}" for j in range(i) if rng.random() < 0.35} | {"print"} for i in range(n)]
    writes = [{f"x{i}"} for i in range(n)]
    return [int(c) for c in rng.permutation(n) + rng.integers(1, 9)], reads, writes


@pytest.mark.question("q1")
@pytest.mark.points(2)
def test_an_input_that_ran_later_makes_a_cell_stale(student):
    """A cell is stale when what it reads ran later."""
    reads = [set(), {"a"}, {"a"}, {"b", "len"}, {"z"}]
    writes = [{"a"}, {"b"}, {"c"}, {"d"}, set()]
    for counts in ([5, 6, 3, 7, 4], [1, 2, 3, 4, 5], [9, 10, 12, 11, 2]):
        hold_stale(student.stale_cells(counts, reads, writes), counts, reads, writes)


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_staleness_is_passed_on(student, rng):
    """What reads from a stale cell is stale too, over any number of cells and in both directions."""
    upwards = [3, 2, 1, 4], [{"b"}, {"c"}, {"d"}, set()], [{"a"}, {"b"}, {"c"}, {"d"}]
    chain = [{f"x{i - 1}"} for i in range(8)], [{f"x{i}"} for i in range(8)]
    turned = [7, 6, 5, 4, 3, 2, 1, 8], chain[0][::-1], chain[1][::-1]
    downwards = [9, 8, 10, 11, 12, 13, 14, 15], *chain
    for counts, reads, writes in [upwards, downwards, turned, *(a_notebook(rng, 8) for _ in range(12))]:
        hold_stale(student.stale_cells(counts, reads, writes), counts, reads, writes)


COUNTS = [
    ([1, 2, 3, 4], [], [], 0),
    ([5, 2, 3, 6], [], [1, 2], 2),
    ([None, 1, None], [0, 2], [], 0),
    ([3, 4, 5], [], [], 2),
    ([7, None, 2, 9, 8], [1], [2, 4], 5),
    ([2, 6, 3, 5], [], [2, 3], 2),
    ([None, None], [0, 1], [], 0),
    ([], [], [], 0),
]


def part(answer, i):
    """One of the three things that are asked for."""
    assert isinstance(answer, list | tuple), "three things are asked for: never, backwards, lost"
    assert len(answer) == 3, f"three things are asked for, got {len(answer)}"
    return answer[i]


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_cells_that_were_never_run(student):
    """The cells without a count are found."""
    for counts, never, _, _ in COUNTS:
        close(part(student.read_counts(counts), 0), never, input=counts)


@pytest.mark.question("q2")
@pytest.mark.points(2)
def test_cells_run_before_one_above(student):
    """The cells with a count below one further up are found, whatever stands between."""
    for counts, _, backwards, _ in COUNTS:
        close(part(student.read_counts(counts), 1), backwards, input=counts)


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_runs_that_no_cell_shows(student):
    """The runs that left no count behind are counted, also where no cell ran or no cell is there."""
    for counts, _, _, lost in COUNTS:
        close(part(student.read_counts(counts), 2), lost, input=counts)


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_all_cells_run_once_in_order(student):
    """Every cell runs once, from the top, and what they leave behind comes back."""
    sources = ["log = ['a']\nk = 2", "log.append('b')", "k = k * 10", "log.append(k)\nname = 'x\"y'"]
    given = {"sources": sources, "defaults": 0, "values": {}}
    close(student.run_headless(sources, 0, {}), {"log": ["a", "b", 20], "k": 20, "name": 'x"y'}, input=given)


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_parameters_replace_the_defaults(student, rng):
    """Parameters come after the cell of defaults and before the next, also when that is not the first."""
    a, b = (int(v) for v in rng.integers(2, 50, 2))
    sources = ["unit = 3", "a = 1\nb = 1", "product = a * b * unit", "b = b + 1"]
    given = {"sources": sources, "defaults": 1, "values": {"a": a, "b": b}}
    expected = {"unit": 3, "a": a, "b": b + 1, "product": a * b * 3}
    close(student.run_headless(sources, 1, {"a": a, "b": b}), expected, input=given)


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_each_run_starts_clean(student):
    """A second run knows nothing of the first."""
    student.run_headless(["left_over = 1", "seen = [1]"], 0, {"also": 2})
    sources = ["found = sorted(name for name in globals() if not name.startswith('_'))"]
    given = {"sources": sources, "defaults": 0, "values": {}}
    close(student.run_headless(sources, 0, {}), {"found": []}, input=given)
