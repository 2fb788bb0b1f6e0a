"""The engine's hot paths in C and in Python: the same bits, nodes and errors; no leak; no need of C."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlsys_lab.autograd as ag
from mlsys_lab._core import native
from mlsys_lab.autograd import rows
from mlsys_lab.autograd.tape import Node, table, tape_of, walk
from mlsys_lab.autograd.tensor import collect

ROOT = Path(__file__).resolve().parents[2]
C = native.extension("mlsys_lab.autograd", "_dispatch.c")
needs_c = pytest.mark.skipif(C is None, reason="no C compiler, or no Python.h")
UNARY = sorted(name for name, op in table.items() if type(op) is rows.Unary)
BINARY = sorted(name for name, op in table.items() if type(op) is rows.Binary)
SHAPES = [(3,), (2, 3), (2, 1), (1, 3), (), (4,), (0, 3)]
DTYPES = [np.float32, np.float32, np.float64, ml_dtypes.bfloat16, np.int64]
NUMBERS = [0.5, -1.0, 0.0, 3, -2, True, 2**30 + 1, 1e300, 1e-300, float("nan"), float("inf"), 10**400]


@contextmanager
def in_python() -> Iterator[None]:
    """The twins run: rows called as Python's `__call__` says, and no extension."""
    with pytest.MonkeyPatch.context() as patch:
        for name, op in table.items():
            patch.setitem(table, name, partial(type(op).__call__, op))
        patch.setattr(native, "extension", lambda *_: None)
        yield


leaves = st.lists(
    st.tuples(st.sampled_from(SHAPES), st.sampled_from(DTYPES), st.booleans()), min_size=1, max_size=4
)
operand = st.one_of(st.integers(0, 12), st.integers(0, 12), st.sampled_from(NUMBERS).map(lambda x: (x,)))
steps = st.lists(
    st.tuples(
        st.sampled_from(UNARY + BINARY * 2), operand, operand, st.sampled_from(["", "", "hook", "quiet"])
    ),
    min_size=1,
    max_size=10,
)


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
        x, y = (v[0] if isinstance(v, tuple) else values[v % len(values)] for v in (first, second))
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
@settings(deadline=None)
@given(leaves, steps, st.booleans())
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


def broken(kind: str) -> None:
    x = ag.Tensor(np.ones(3, np.float32), requires_grad=True)
    if kind == "shape":
        x * ag.Tensor(np.ones(4, np.float32))
    elif kind == "dtype":
        x * ag.Tensor(np.ones(3))
    elif kind == "number":
        x * 10**400
    elif kind == "floating point":
        with np.errstate(all="raise"):
            ag.log(x - 1.0)
    elif kind == "rule":
        double = ag.primitive("double", lambda x: 2 * x, lambda g: 1 / 0)
        double(x * x * 2.0).backward(np.ones(3, np.float32))
    elif kind == "hook":
        y = x * x
        y.register_hook(lambda g: 1 / 0)
        (y + y).backward(np.ones(3, np.float32))
    elif kind == "arrive":
        x.register_post_accumulate_grad_hook(lambda p: 1 / 0)
        (x * x).backward(np.ones(3, np.float32))
    elif kind == "edge":
        y = x * x
        y.node.edges = [(x.node, table["exp"].rules[0], [x.data])]
        C.walk([y.node], {y.node: x.data}, collect, wanted=(), tracked=False, free=True)
    elif kind == "positions":
        rule = table["exp"].rules[0]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rule, "positions", (7,))
            ag.exp(x)
            raise KeyError
    else:
        C.walk([x.node], {x.node: x.data}, collect)


ERRORS = {
    "shape": ag.ShapeError,
    "dtype": ag.DtypeError,
    "number": OverflowError,
    "floating point": FloatingPointError,
    "rule": ZeroDivisionError,
    "hook": ZeroDivisionError,
    "arrive": ZeroDivisionError,
    "edge": TypeError,
    "positions": KeyError,
    "keywords": TypeError,
}


@needs_c
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_leaves_no_reference_behind(kind):
    def once() -> None:
        with pytest.raises(ERRORS[kind]):
            broken(kind)

    once()
    objects = [
        np.dtype(np.float32),
        table["exp"].rules[0],
        table["multiply"],
        np.multiply,
        Node,
        ag.Tensor,
        (),
    ]
    gc.collect()
    before, nodes = [sys.getrefcount(o) for o in objects], live(Node)
    for _ in range(100):
        once()
    gc.collect()
    assert all(abs(sys.getrefcount(o) - b) < 50 for o, b in zip(objects, before, strict=True))
    assert live(Node) == nodes


def live(kind: type) -> int:
    gc.collect()
    return sum(type(o) is kind for o in gc.get_objects())


@needs_c
def test_ten_thousand_operations_leave_every_count_as_it_was():
    x = ag.Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    c = ag.Tensor(np.ones(3, np.float32))

    def work() -> None:
        for _ in range(1000):
            h = x * c + 0.5
            h.register_hook(lambda g: None)
            y = 2 - ag.tanh(h * h) / h
            with ag.no_grad():
                _ = y * c
        y.backward(np.ones((2, 3), np.float32))
        x.grad = None

    shared = [
        *(
            x.data,
            c.data,
            x.node,
            x.node.shape,
            x.data.dtype,
            np.multiply,
            np.tanh,
            Node,
            ag.Tensor,
            None,
            True,
        ),
        *(rule for name in ("multiply", "add", "tanh", "divide") for rule in table[name].rules),
        *(table["multiply"], table["multiply"].rules, (), table["tanh"].rules[0].positions, collect),
    ]
    work()
    gc.collect()
    before = [sys.getrefcount(o) for o in shared]
    work()
    gc.collect()
    after = [sys.getrefcount(o) for o in shared]
    assert all(abs(a - b) < 20 for a, b in zip(after, before, strict=True)), (before, after)


@needs_c
def test_step_10_and_step_1000_hold_the_same_memory_tensors_and_nodes():
    x = ag.Tensor(np.ones(5, np.float64), requires_grad=True)

    def step() -> None:
        x.grad = None
        y = ag.exp(x * 0.5) * x - 1
        (y * y + y).backward(np.ones(5))

    tracemalloc.start()
    try:
        for _ in range(10):
            step()
        counts, held = (live(ag.Tensor), live(Node)), tracemalloc.get_traced_memory()[0]
        for _ in range(990):
            step()
        assert (live(ag.Tensor), live(Node)) == counts
        assert tracemalloc.get_traced_memory()[0] - held < 60 * 1024
    finally:
        tracemalloc.stop()


@needs_c
def test_a_graph_that_refers_to_itself_is_collected():
    x = ag.Tensor(np.ones(3, np.float32), requires_grad=True)
    before = live(Node)
    for _ in range(20):
        y = x * x
        y.node.hooks = [y.node]
    del y
    assert live(Node) == before


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


SCRIPT = """
import sys
{before}
import numpy as np
import mlsys_lab.autograd as ag
from mlsys_lab._core import native
assert not any("_dispatch" in name for name in sys.modules)
for _ in range(2):
    x = ag.Tensor(np.float32([1, 2]), requires_grad=True)
    (x * x + 0.5).backward(np.float32([1, 10]))
    print(x.grad.tolist())
print(native.extension("mlsys_lab.autograd", "_dispatch.c") is not None)
"""


def spoken(cache: Path, before: str = "", **variables: str) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache), **variables}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(before=before)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.poor
@pytest.mark.parametrize("lack", ["compiler", "Python.h", "working compiler"])
def test_without_a_compiler_or_a_header_the_twins_run_silently(lack, tmp_path):
    before = "import sysconfig; sysconfig.get_path = lambda *_: '/nowhere'" if lack == "Python.h" else ""
    variables = {"compiler": {"MLSYS_LAB_NO_COMPILER": "1"}, "working compiler": {"CFLAGS": ""}}.get(lack, {})
    if lack == "working compiler":
        fake = tmp_path / "cc"
        fake.write_text(
            '#!/bin/sh\n[ "$1" = --version ] && echo cc 9 && exit 0\necho "error: no" >&2\nexit 1\n'
        )
        fake.chmod(0o755)
        variables = {"CC": str(fake)}
    assert spoken(tmp_path / "cache", before, **variables) == ["[2.0, 40.0]"] * 2 + ["False"]


@needs_c
@pytest.mark.poor
def test_a_damaged_library_is_built_again(tmp_path):
    said = ["[2.0, 40.0]"] * 2 + ["True"]
    assert spoken(tmp_path) == said
    (library,) = (tmp_path / "mlsys-lab" / "native").glob("_dispatch-*")
    library.chmod(0o700)
    whole = library.read_bytes()
    library.write_bytes(whole[: len(whole) // 2])
    assert spoken(tmp_path) == said
    assert library.read_bytes() == whole


@needs_c
def test_another_binary_interface_of_python_is_another_library(monkeypatch):
    asked = []
    monkeypatch.setattr(native, "build", lambda source, name, flags: asked.append(flags) or "/nowhere")
    for suffix in (".cpython-311-x86_64-linux-gnu.so", ".cpython-312-x86_64-linux-gnu.so"):
        monkeypatch.setattr(
            native.sysconfig, "get_config_var", lambda name, s=suffix: s if "EXT" in name else 0
        )
        native.extension.__wrapped__("mlsys_lab.autograd", "_dispatch.c")
    assert len(set(asked)) == 2
