"""The engine's hot paths in C and in Python: the same bits, nodes and errors; no leak; no need of C."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mlsys_lab.autograd as ag
from mlsys_lab._core import native
from mlsys_lab.autograd import rows
from mlsys_lab.autograd.tape import Node, table, tape_of, walk

C = native.extension("mlsys_lab.autograd", "_dispatch.c")
needs_c = pytest.mark.skipif(C is None, reason="no C compiler, or no Python.h")
UNARY = sorted(name for name, op in table.items() if type(op) is rows.Unary)
BINARY = sorted(name for name, op in table.items() if type(op) is rows.Binary)
SHAPES = [(3,), (2, 3), (2, 1), (1, 3), (3,), (2, 3), (2, 1), (1, 3), (), (4,), (0, 3)]
FLOATS = [np.float32, np.float32, np.float64, ml_dtypes.bfloat16]
NUMBERS = [0.5, -1.0, 0.0, 3, -2, True, 2**30 + 1, 1e300, 1e-300, float("nan"), float("inf"), 10**400]


@contextmanager
def in_python() -> Iterator[None]:
    """The twins run: rows called as Python's `__call__` says, and no extension."""
    with pytest.MonkeyPatch.context() as patch:
        for name, op in table.items():
            patch.setitem(table, name, partial(type(op).__call__, op))
        patch.setattr(native, "extension", lambda *_: None)
        yield


@st.composite
def leaves(draw) -> list[tuple]:
    """Shapes that mostly broadcast, mostly of one dtype, mostly on the tape."""
    one = draw(st.sampled_from(FLOATS))
    dtypes = st.sampled_from([one] * 9 + [*FLOATS, np.int64])
    kinds = st.tuples(st.sampled_from(SHAPES), dtypes, st.sampled_from([True, True, False]))
    return draw(st.lists(kinds, min_size=2, max_size=4))


# Which earlier value, counted from the newest, or a number.
operand = st.one_of(*[st.integers(1, 6)] * 5, st.sampled_from(NUMBERS).map(lambda x: (x,)))
manner = st.sampled_from(["", "", "", "hook", "quiet"])
steps = st.lists(
    st.tuples(st.sampled_from(UNARY + BINARY * 3), operand, operand, manner), min_size=3, max_size=12
)
WIDENED = ([((2, 1), np.float32, True), ((2, 3), np.float32, True)], [("exp", 2, 2, ""), ("add", 1, 2, "")])
NO_AXES = ([((), np.float32, True)], [("negative", 1, 1, ""), ("log", 1, 1, "")])


def bits(x: object) -> object:
    return (x.dtype, x.shape, x.tobytes()) if isinstance(x, (np.ndarray, np.generic)) else x


def outcome(call) -> tuple[object, object]:
    """What came of a call: its result, or the exception's class and words; and the warnings, in order."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            result = call()
        except Exception as error:
            return (None, (type(error), str(error), [(w.category, str(w.message)) for w in heard]))
    return (result, [(w.category, str(w.message)) for w in heard])


def run(given_leaves: list, given_steps: list, retain: bool) -> list[object]:
    """Everything that can be seen of a graph: values, nodes, gradients, errors, in order."""
    rng = np.random.default_rng(3)
    values = [
        ag.Tensor((2 * rng.normal(size=shape)).astype(dtype), requires_grad=traced and dtype is not np.int64)
        for shape, dtype, traced in given_leaves
    ]
    roots, seen = list(values), []
    for name, first, second, manner in given_steps:
        x, y = (v[0] if isinstance(v, tuple) else values[-v % len(values)] for v in (first, second))
        arguments = (x,) if name in UNARY else (x, y)
        with ag.no_grad() if manner == "quiet" else nullcontext():
            result, said = outcome(lambda a=arguments, n=name: table[n](*a))
        seen.append(said)
        if not isinstance(result, ag.Tensor):
            seen.append((type(result), bits(result)))
            continue
        values.append(result)
        seen.append((bits(result.data), result.requires_grad))
        if manner == "hook" and result.requires_grad:
            result.register_hook(lambda g: g * 2 if g.shape else None)
    live = [v for v in values if v.requires_grad]
    number = {v.node: i for i, v in enumerate(live)}
    for v in live:
        edges = [(number[p], r.argument, [bits(x) for x in kept]) for p, r, kept in v.node.edges]
        op = v.node.op and v.node.op.name
        seen.append((op, v.node.shape, v.node.dtype, v.node.hooks and len(v.node.hooks), edges))
    for v in live[::-1][:3]:
        up = np.random.default_rng(4).normal(size=v.shape)
        seen.append(outcome(lambda v=v, up=up: v.backward(up, retain_graph=retain))[1])
        seen.append([bits(r.grad.data) for r in roots if r.grad is not None])
        seen.append([n.node.edges is None for n in live])
    return seen


@needs_c
@settings(deadline=None, max_examples=150)
@given(leaves(), steps, st.booleans())
@example(*WIDENED, True)
@example(*NO_AXES, False)
def test_c_and_python_give_equal_bits_nodes_warnings_and_errors(given_leaves, given_steps, retain):
    short = run(given_leaves, given_steps, retain)
    with in_python():
        assert run(given_leaves, given_steps, retain) == short


def calls_in_python(work) -> list[str]:
    """The Python functions of rows.py, primitive.py and tape.py that ran."""
    found = []

    def look(frame, event, _):
        if event == "call" and Path(frame.f_code.co_filename).name in ("rows.py", "primitive.py", "tape.py"):
            found.append(frame.f_code.co_name)

    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


@needs_c
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_plain_runs_in_c_and_what_is_not_in_python(dtype):
    x = ag.Tensor(np.ones(3, dtype), requires_grad=True)
    c = ag.Tensor(np.ones((2, 1), dtype))
    assert calls_in_python(lambda: ag.tanh(2.0 - x * c / 3 + c * c) - 1) == []
    assert "__call__" in calls_in_python(lambda: x + ag.Tensor(np.ones(3, dtype)).data)
    with ag.observe(lambda *event: None):
        assert "__call__" in calls_in_python(lambda: x * c)
    with ag.override("multiply", lambda g, x, y: (g * y, g * x)):
        assert "__call__" in calls_in_python(lambda: x * c)
    y = x * c
    assert set(calls_in_python(lambda: y.backward(np.ones((2, 3), dtype)))).isdisjoint({"walk"})
    with in_python():
        assert "__call__" in calls_in_python(lambda: x * c)
        assert "walk" in calls_in_python(lambda: (x * c).backward(np.ones((2, 3), dtype)))


@needs_c
def test_a_changed_row_is_read_at_the_next_call(monkeypatch):
    x = ag.Tensor(np.float32([1, 2]), requires_grad=True)
    monkeypatch.setattr(table["exp"], "forward", np.square)
    monkeypatch.setattr(table["exp"].rules[0], "function", lambda g, out: g + out)
    y = ag.exp(x)
    y.backward(np.float32([10, 20]))
    np.testing.assert_array_equal(y.data, [1, 4])
    np.testing.assert_array_equal(x.grad.data, [11, 24])


@needs_c
def test_each_thread_has_its_own_mode():
    x = ag.Tensor(np.ones(3, np.float32), requires_grad=True)
    wrong = []

    def work(recording: bool) -> None:
        with ag.enable_grad() if recording else ag.no_grad():
            for _ in range(3000):
                if (x * 2.0).requires_grad is not recording:
                    wrong.append(recording)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work, args=(i % 2 == 0,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    sys.setswitchinterval(before)
    assert not wrong
    assert (x * 2.0).requires_grad


@needs_c
def test_both_walks_report_asked_nodes_and_leaves_in_the_order_of_the_tape():
    def heard(walk) -> list[tuple[str, bytes, bool]]:
        a, b = (ag.Tensor(np.float32([2, 3]), requires_grad=True) for _ in range(2))
        h = a * b
        y = ag.tanh(h) * b + h
        names, told = {a.node: "a", b.node: "b", h.node: "h"}, []

        def arrive(node: Node, g: np.ndarray, owned: bool) -> None:
            told.append((names[node], g.tobytes(), owned))

        walk(
            tape_of([y.node]), {y.node: np.float32([1, 5])}, arrive, wanted={h.node}, tracked=False, free=True
        )
        return told

    assert [name for name, _, _ in heard(C.walk)] == ["h", "a", "b"]
    assert heard(C.walk) == heard(walk)
