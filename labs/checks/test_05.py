"""Checks of lab 05: graphs evaluated by their definition, a step that notes its calls, and plain counting."""

import copy
import math
import re

import numpy as np
import pytest

from autograder.compare import close


def halved(a):
    return a / 2


def joined(a, b):
    return a - 3 * b


def total(a, b, c):
    return a + 10 * b + 100 * c


def five():
    return 5.0


def by_definition(nodes, name, feeds):
    """The value of a name: fed, or its function of the values of its inputs."""
    if name in feeds:
        return feeds[name]
    function, inputs = nodes[name]
    return function(*(by_definition(nodes, one, feeds) for one in inputs))


def itself_once(given, memo):
    """The first copy, which `check` takes, is the value itself, so that a change shows; others are plain."""
    if given.went:
        return copy.deepcopy(type(given).__base__(given), memo)
    given.went = True
    return given


class Feeds(dict):
    """A watched dict."""

    went, __deepcopy__ = False, itself_once


class Fetches(list):
    """A watched list."""

    went, __deepcopy__ = False, itself_once


def listed(got, fetches):
    """What run returned, as a list of as many values as were asked for."""
    assert got is not None, "run returned None (is there a return?)"
    assert not isinstance(got, dict), "run returned a dict: return a list, the values in the order of fetches"
    asked = f"{len(fetches)} value{'' if len(fetches) == 1 else 's'}"
    assert len(got) == len(fetches), f"asked for {asked}, got {len(got)}"
    return list(got)


SMALL = {
    "late": (total, ["mid", "a", "mid"]),
    "mid": (joined, ["half", "b"]),
    "half": (halved, ["a"]),
    "five": (five, []),
    "a": (None, []),
    "b": (None, []),
    "last": (joined, ("late", "five")),
    "alone": (halved, ["c"]),
    "c": (None, []),
}


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_values_of_a_small_graph_in_any_order(student, rng):
    """Fetch each value alone and several together, from a table in two orders."""
    feeds = {"a": float(rng.normal()), "b": float(rng.normal())}
    for nodes in (SMALL, dict(reversed(SMALL.items()))):
        for fetches in (["half"], ["last"], ["mid", "last", "a", "five"], ["last", "last"], []):
            expected = [by_definition(nodes, name, feeds) for name in fetches]
            names, given = Fetches(fetches), Feeds(feeds)
            try:
                got = student.run(nodes, names, given)
            except TypeError:  # a sandbox sends nothing but plain values, and those as copies
                got = student.run(nodes, fetches, feeds)
            assert given == feeds, "run changed feeds: begin with a copy"
            assert names == fetches, "run changed fetches: begin with a copy"
            close(listed(got, fetches), expected, rtol=1e-12, input={"fetches": fetches, "feeds": feeds})


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_only_what_is_needed_and_that_once(student):
    """Functions that note when they run: nothing beside the fetched, nothing twice."""
    ran = []

    def noting(name, function):
        def noted(*values):
            ran.append(name)
            return function(*values)

        return noted

    nodes = {k: (f and noting(k, f), inputs) for k, (f, inputs) in SMALL.items()}
    for fetches, needed in ((["half"], {"half"}), (["late", "mid"], {"half", "mid", "late"})):
        ran.clear()
        student.run(nodes, fetches, {"a": 1.0, "b": 2.0})
        assert sorted(ran) == sorted(needed), f"fetching {fetches} needs {sorted(needed)}; these ran: {ran}"
        assert ran == sorted(ran, key=["half", "mid", "late"].index), f"inputs come first; the order was {ran}"


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_any_value_may_be_fed_and_a_missing_one_is_named(student):
    """A value in the middle is fed, also 0; where `b` is needed and lacking, the error names it."""
    for mid in (7.0, 0.0):
        close(listed(student.run(SMALL, ["late"], {"a": 1.0, "mid": mid}), ["late"]), [10 + 101 * mid], rtol=1e-12)
    close(listed(student.run(SMALL, ["half", "c"], {"a": 1.0, "c": 0.0}), ["half", "c"]), [0.5, 0.0], rtol=1e-12)
    feeds = {"a": 1.0}
    try:
        got = student.run(SMALL, ["last"], feeds)
    except Exception as error:
        kind = getattr(error, "kind", type(error).__name__)
        said = str(getattr(error, "message", error))
        assert kind == "ValueError", f"b is not fed: a ValueError is asked for, got {kind}"
        assert re.search(r"\bb\b", said), f"the error has to name the value b, it says {said!r}"
    else:
        raise AssertionError(f"b is not fed: a ValueError is asked for, got {got!r:.80}")


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_deep_graphs_and_much_reuse(student):
    """A chain of 2,000 steps, and 40 steps that use the one before twice."""

    def more(a):
        return a + 1

    def both(a, b):
        return a + b

    chain = {str(i): (more, [str(i - 1)]) for i in range(2000, 0, -1)} | {"0": (None, [])}
    close(listed(student.run(chain, ["2000"], {"0": 5}), ["2000"]), [2005])
    doubled = {str(i): (both, [str(i - 1)] * 2) for i in range(40, 0, -1)} | {"0": (None, [])}
    close(listed(student.run(doubled, ["40"], {"0": 1.0}), ["40"]), [2.0**40])


def weighted(w, x, y, real, rate):
    """A step whose result tells which rows counted, and in which order the batches came."""
    rows = real[:, 0] > 0
    return w / 2 + rate * (x[rows].T @ y[rows])


def passed(student, sizes, size, rng):
    """What the student's loop returns, what the loop over unpadded batches gives, and the calls."""
    batches = [
        (rng.normal(size=(n, 4)).astype(np.float32), rng.normal(size=(n, 3)).astype(np.float32)) for n in sizes
    ]
    rates = [0.5 / (1 + i) for i in range(len(sizes))]
    calls = []

    def step(*arguments):
        calls.append(arguments)
        ends = np.atleast_2d(np.asarray(arguments[3]))
        return weighted(arguments[0], arguments[1], arguments[2], ends, arguments[4])

    start = expected = rng.normal(size=(4, 3)).astype(np.float32)
    for (x, y), rate in zip(batches, rates, strict=True):
        expected = weighted(expected, x, y, np.ones((len(x), 1)), rate)
    return student.mended(step, start, batches, rates, size), expected, calls


def kind(value):
    """What a tracer looks at: dtype and shape of an array, anything else as it is."""
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else f"no array but {value!r}"


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_all_calls_look_alike(student, rng):
    """Ragged batches and a falling rate make calls of one kind, in float32."""
    _, _, calls = passed(student, [5, 3, 6, 1], 6, rng)
    kinds = [tuple(map(kind, call)) for call in calls]
    asked = ("float32[4, 3]", "float32[6, 4]", "float32[6, 3]", "float32[6, 1]", "float32[]")
    for call, found in zip(calls, kinds, strict=True):
        fix = "; np.array(rate, np.float32) is an array without axes" if isinstance(call[4], np.generic) else ""
        assert found == asked, f"w, x, y, real, rate: asked for {asked}, got {found}{fix}"
    assert len(kinds) == 4, f"one step per batch: there were 4 batches and {len(kinds)} calls"


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_the_result_is_that_of_the_loop_as_found(student, rng):
    """Each batch once, in order, with its own rate; the rows that fill up do not count."""
    for sizes in ([5, 3, 6, 1], [6], []):
        got, expected, _ = passed(student, sizes, 6, rng)
        close(got, expected, rtol=1e-4, atol=1e-5, input={"lengths of the batches": sizes, "size": 6})


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_rows_that_fill_up_are_marked_and_zero(student, rng):
    """`real` is 1 for an image and 0 below; x and y are zeros there."""
    sizes = [5, 3, 8]
    _, _, calls = passed(student, sizes, 8, rng)
    assert len(calls) == 3, f"one step per batch: there were 3 batches and {len(calls)} calls"
    for n, (_, x, y, real, _) in zip(sizes, calls, strict=True):
        marks = (np.arange(8) < n)[:, None].astype(np.float32)
        close(np.asarray(real), marks, input={"length of the batch": n, "size": 8})
        for name, array in (("x", x), ("y", y)):
            assert not np.asarray(array)[n:].any(), f"{name} has to be zero below row {n}"


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_graphs_made_counts_kinds_of_calls(student, rng):
    """Numbers by value, arrays by dtype and shape, in one and in two arguments."""
    one = [(v,) for v in (1, 1.0, True, 2, 0.5, 0.5)]
    close(student.graphs_made(one), 3, input=one)
    arrays = [np.zeros(3), np.ones(3), np.zeros(4), np.zeros((3, 1)), np.zeros(3, np.float32)]
    close(student.graphs_made([(a,) for a in arrays]), 4, input=arrays)
    mixed = [(1, 2), (2, 1), (1, arrays[0]), (1, arrays[1]), (arrays[0], 1), (1.0, 2), (1,)]
    close(student.graphs_made(mixed), 5, input=mixed)
    close(student.graphs_made([]), 0, input=[])


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_calls_to_pay_is_the_first_that_has_paid(student):
    """The least n with trace + n graph below n eager, found by trying; None where there is none."""
    for trace, graph, eager in ((90, 1, 4), (91, 1, 4), (89, 1, 4), (5, 2, 900), (0, 1, 2), (7, 3, 4)):
        n = 1
        while not trace + n * graph < n * eager:
            n += 1
        close(student.calls_to_pay(trace, graph, eager), n, input=(trace, graph, eager))
    for never in ((10, 4, 4), (10, 5, 4), (0, 4, 4)):
        got = student.calls_to_pay(*never)
        assert got is None, f"{never} never pays: None is asked for, got {got!r}"


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_chain_bytes_are_those_read_and_written(student):
    """Arrays that are read and written, counted by walking along the chain."""
    for steps, n in ((1, 7), (5, 1000), (12, 1), (3, 64)):
        array, apart = np.zeros(n, np.float32), 0
        for _ in range(steps):
            result = np.empty_like(array)
            apart += array.nbytes + result.nbytes
            array = result
        close(tuple(student.chain_bytes(steps, n)), (apart, 2 * math.prod(array.shape) * 4), input=(steps, n))
