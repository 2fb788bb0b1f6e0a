"""Lab 05: its checks pass the reference and fail wrong solutions; what it says of the frameworks holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autograder.local import LocalSession
from autograder.pair import read_source
from autograder.reference import reference
from autograder.run_tests import run_tests
from mlsys_lab import autograd as ag
from mlsys_lab.compile import bytes_moved
from mlsys_lab.compile import compile as capture

ROOT = Path(__file__).resolve().parents[2]
CHECKS = [ROOT / "labs" / "checks" / "test_05.py"]


def failed(question: str, *functions: Any) -> list[str]:
    """The tests of a question that functions do not pass."""
    named = {f.__name__: f for f in functions}
    only = functions[0] if len(functions) == 1 else None
    results = run_tests(CHECKS, LocalSession(named, only), seed=7, question=question)
    assert results
    return [r.name for r in results if not r.passed]


def recursive(nodes, fetches, feeds):
    values = dict(feeds)

    def value(name):
        if name not in values:
            function, inputs = nodes[name]
            if function is None:
                raise ValueError(name)
            values[name] = function(*[value(i) for i in inputs])
        return values[name]

    return [value(name) for name in fetches]


def without_memory(nodes, fetches, feeds):
    def value(name):
        if name in feeds:
            return feeds[name]
        function, inputs = nodes[name]
        if function is None:
            raise ValueError(name)
        return function(*[value(i) for i in inputs])

    return [value(name) for name in fetches]


def in_rounds(nodes, fetches, feeds):
    values = dict(feeds)
    for _ in nodes:
        for name, (function, inputs) in nodes.items():
            if name not in values and function and all(i in values for i in inputs):
                values[name] = function(*[values[i] for i in inputs])
    return [values[name] for name in fetches]


def in_the_order_of_the_table(nodes, fetches, feeds):
    values = dict(feeds)
    for name, (function, inputs) in nodes.items():
        if name not in values and function:
            values[name] = function(*[values[i] for i in inputs])
    return [values[name] for name in fetches]


def right(nodes, fetches, feeds):
    return reference(ROOT, "lab05", "q1")["run"](nodes, fetches, feeds)


def feeds_only_placeholders(nodes, fetches, feeds):
    return right(nodes, fetches, {k: v for k, v in feeds.items() if nodes[k][0] is None})


def zero_counts_as_not_fed(nodes, fetches, feeds):
    return right(nodes, fetches, {k: v for k, v in feeds.items() if v})


def key_error(nodes, fetches, feeds):
    try:
        return right(nodes, fetches, feeds)
    except ValueError as error:
        raise KeyError(str(error)) from None


def none_for_what_is_lacking(nodes, fetches, feeds):
    try:
        return right(nodes, fetches, feeds)
    except ValueError:
        return [None] * len(fetches)


def last_value_only(nodes, fetches, feeds):
    return right(nodes, fetches, feeds)[-1:]


def changes_feeds(nodes, fetches, feeds):
    values = right(nodes, fetches, feeds)
    feeds.update(zip(fetches, values, strict=True))
    return values


def empties_fetches(nodes, fetches, feeds):
    values = right(nodes, fetches, feeds)
    fetches.clear()
    return values


def nothing_for_the_fetches(nodes, fetches, feeds):
    return []


def values_by_name(nodes, fetches, feeds):
    return dict(zip(fetches, right(nodes, fetches, feeds), strict=True))


def as_found(step, w, batches, rates, size):
    for (x, y), rate in zip(batches, rates, strict=True):
        w = step(w, x, y, np.ones((len(x), 1), np.float32), rate)
    return w


def padded(step, w, batches, rates, size, *, real=None, rate=None, fill=0.0, order=slice(None)):
    """The mend with something of it changed."""
    for (x, y), one in list(zip(batches, rates, strict=True))[order]:
        more = ((0, size - len(x)), (0, 0))
        marks = np.pad(np.ones((len(x), 1), np.float32), more) if real is None else real(len(x), size)
        x, y = (np.pad(a, more, constant_values=fill) for a in (x, y))
        w = step(w, x, y, marks, np.array(one, np.float32) if rate is None else rate(one))
    return w


def rate_stays_a_number(step, w, batches, rates, size):
    return padded(step, w, batches, rates, size, rate=float)


def rate_in_double(step, w, batches, rates, size):
    return padded(step, w, batches, rates, size, rate=np.array)


def rate_with_an_axis(step, w, batches, rates, size):
    return padded(step, w, batches, rates, size, rate=lambda r: np.array([r], np.float32))


def filling_counts(step, w, batches, rates, size):
    return padded(step, w, batches, rates, size, real=lambda n, size: np.ones((size, 1), np.float32))


def marks_in_double(step, w, batches, rates, size):
    return padded(step, w, batches, rates, size, real=lambda n, size: (np.arange(size) < n)[:, None] * 1.0)


def filled_with_ones(step, w, batches, rates, size):
    return padded(step, w, batches, rates, size, fill=1.0)


def short_batches_dropped(step, w, batches, rates, size):
    kept = [i for i, (x, _) in enumerate(batches) if len(x) == size]
    return padded(step, w, [batches[i] for i in kept], [rates[i] for i in kept], size)


def backwards(step, w, batches, rates, size):
    return padded(step, w, batches, rates, size, order=slice(None, None, -1))


def first_rate_for_all(step, w, batches, rates, size):
    return padded(step, w, batches, [rates[0]] * len(rates) if rates else [], size)


def cut_to_the_shortest(step, w, batches, rates, size):
    least = min((len(x) for x, _ in batches), default=0)
    return as_found(step, w, [(x[:least], y[:least]) for x, y in batches], rates, size)


GRAPHS = (recursive, without_memory, in_rounds, in_the_order_of_the_table, feeds_only_placeholders,
          zero_counts_as_not_fed, key_error, none_for_what_is_lacking, last_value_only, changes_feeds,
          empties_fetches, nothing_for_the_fetches, values_by_name)  # fmt: skip
MENDS = (as_found, rate_stays_a_number, rate_in_double, rate_with_an_axis, filling_counts, marks_in_double,
         filled_with_ones, short_batches_dropped, backwards, first_rate_for_all,
         cut_to_the_shortest)  # fmt: skip


@pytest.mark.parametrize(
    ("question", "wrong"),
    [*(("q1", f) for f in GRAPHS), *(("q2", f) for f in MENDS)],
    ids=lambda v: getattr(v, "__name__", str(v)),
)
def test_a_wrong_solution_loses_points(question, wrong):
    assert failed(question, wrong)


def test_what_is_right_in_a_half_right_answer_keeps_its_points():
    assert failed("q1", recursive) == ["test_deep_graphs_and_much_reuse"]
    assert failed("q1", key_error) == ["test_any_value_may_be_fed_and_a_missing_one_is_named"]
    assert failed("q1", changes_feeds) == ["test_values_of_a_small_graph_in_any_order"]
    assert failed("q2", rate_stays_a_number) == ["test_all_calls_look_alike"]
    assert failed("q2", as_found) == [
        "test_all_calls_look_alike",
        "test_rows_that_fill_up_are_marked_and_zero",
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (changes_feeds, "run changed feeds: begin with a copy"),
        (empties_fetches, "run changed fetches: begin with a copy"),
        (nothing_for_the_fetches, "asked for 1 value, got 0"),
        (values_by_name, "run returned a dict"),
    ],
)
def test_a_check_of_the_evaluator_says_what_went_wrong(wrong, said):
    results = run_tests(CHECKS, LocalSession({"run": wrong}, wrong), seed=7, question="q1")
    assert any(said in r.message for r in results), [r.message for r in results]


def test_a_scalar_that_is_no_array_is_told_how_to_make_one():
    def mended(step, w, batches, rates, size):
        return padded(step, w, batches, rates, size, rate=np.float32)

    results = run_tests(CHECKS, LocalSession({}, mended), seed=7, question="q2")
    (found,) = (r.message for r in results if not r.passed)
    assert "np.array(rate, np.float32) is an array without axes" in found


def spelled(value):
    return str((value.dtype, value.shape)) if isinstance(value, np.ndarray) else repr(value)


AUDITS = {
    "graphs_made": {
        "once": lambda calls: min(len(calls), 1),
        "every call": len,
        "types count": lambda calls: len({tuple(map(spelled, c)) for c in calls}),
        "shapes alone": lambda calls: len({tuple(getattr(v, "shape", v) for v in c) for c in calls}),
        "in any order": lambda calls: len({frozenset(map(spelled, c)) for c in calls}),
        "arguments apart": lambda calls: len({spelled(v) for c in calls for v in c}),
    },
    "calls_to_pay": {
        "equal is enough": lambda t, g, e: max(1, -(-t // (e - g))) if e > g else None,
        "tracing forgotten": lambda t, g, e: 1 if e > g else None,
        "graph forgotten": lambda t, g, e: t // e + 1,
        "never is infinite": lambda t, g, e: t // (e - g) + 1 if e > g else float("inf"),
    },
    "chain_bytes": {
        "four bytes": lambda steps, n: (4 * n * steps, 4 * n),
        "numbers": lambda steps, n: (2 * n * steps, 2 * n),
        "fused stores all": lambda steps, n: (8 * n * steps, 4 * n * (steps + 1)),
        "arithmetic": lambda steps, n: (8 * n * steps, 8 * n * steps),
    },
}


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name in AUDITS for wrong in AUDITS[name]])
def test_a_claim_left_as_it_was_loses_its_point(name, wrong):
    functions = reference(ROOT, "lab05", "q3")

    def changed(*arguments):
        return AUDITS[name][wrong](*arguments)

    changed.__name__ = name
    assert len(failed("q3", *[changed if n == name else f for n, f in functions.items()])) == 1


@pytest.mark.parametrize("question", ["q1", "q2", "q3"])
def test_the_reference_passes(question):
    assert failed(question, *reference(ROOT, "lab05", question).values()) == []


def test_reading_a_reference_imports_no_framework():
    code = """if True:
        import sys
        from pathlib import Path
        from autograder.reference import reference
        reference(Path("."), "lab05", "q3")
        print({"torch", "tensorflow"} & set(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_rows_that_fill_up_change_the_step_of_the_lab_where_they_are_not_marked():
    cells = read_source(ROOT / "labs" / "05_frameworks.py").cells
    (cell,) = (c.source for c in cells if "def descend(" in c.source)
    space: dict[str, Any] = {"np": np}
    exec(cell.partition("\n\nturns = ")[0], space)
    step, rng = space["descend"](np.transpose), np.random.default_rng(5)
    w, x, y = (rng.normal(size=size) for size in ((4, 3), (5, 4), (5, 3)))
    by_hand = w - 0.5 * np.mean([np.outer(a, a @ w - b) for a, b in zip(x, y, strict=True)], axis=0)
    np.testing.assert_allclose(step(w, x, y, np.ones((5, 1)), 0.5), by_hand, rtol=1e-12)
    filled = [np.pad(a, ((0, 3), (0, 0))) for a in (x, y, np.ones((5, 1)))]
    np.testing.assert_allclose(step(w, *filled, 0.5), by_hand, rtol=1e-12)
    assert np.abs(step(w, *filled[:2], np.ones((8, 1)), 0.5) - by_hand).max() > 0.01


def test_fusing_saves_bytes_and_common_subexpressions_save_arithmetic():
    def found(function, *passes):
        compiled = capture(function)
        compiled(ag.Tensor(np.ones(1000, np.float32)))
        graphs = [compiled.graph(name) for name in passes]
        return [str(g).count(" = ") - str(g).count(" = input(") for g in graphs], [
            bytes_moved(g) for g in graphs
        ]

    operations, moved = found(lambda x: ag.tanh(ag.exp(-x)), "capture", "plan")
    assert operations == [3, 3]
    assert moved == [24_000, 8_000]
    operations, _ = found(lambda x: ag.exp(x + 1) * ag.exp(x + 1), "capture", "cse")
    assert operations == [5, 3]


#: What the lab's text and docstrings say of the frameworks, asked of them in one process of its own.
FACTS = """
import os
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0")
import numpy as np, tensorflow as tf, torch
tf.get_logger().setLevel("ERROR")

def graphs_of(calls):
    f = tf.function(lambda *a: tf.convert_to_tensor(a[0]))
    for call in calls: f(*call)
    return f.experimental_get_tracing_count()

print(graphs_of([(1,), (1.0,), (True,)]), graphs_of([(1,), (2,), (0.5,)]))
three = np.ones(3)
print(graphs_of([(three,), (three * 2,)]), graphs_of([(three,), (three.astype("f4"),), (np.ones(4),)]))
f = tf.function(lambda a: tf.constant(a))
print(f(1).dtype.name, f(1.0).dtype.name)

rate = 2.0
def scaled(x): return x * rate
seen = []
def backend(graph, examples):
    seen.append(graph)
    return graph.forward
traced, compiled = tf.function(scaled), torch.compile(scaled, backend=backend)
before = float(traced(tf.ones(1))[0]), float(compiled(torch.ones(1))[0])
rate = 0.0
print(before, float(traced(tf.ones(1))[0]), float(compiled(torch.ones(1))[0]))

numbers = [(torch.ones(4), 1 / (2 + i)) for i in range(12)]
for calls in (numbers, *([(torch.ones(n), 0.5) for n in sizes] for sizes in ((9, 8, 7, 6), (9, 8, 7, 1)))):
    torch.compiler.reset(); seen.clear()
    step = torch.compile(lambda x, rate: x * rate, backend=backend)
    for call in calls: step(*call)
    print(len(seen))
"""


def test_what_the_lab_says_of_tracing_holds_in_tensorflow_and_pytorch(packages):
    packages("tensorflow", "torch")
    done = subprocess.run(
        [sys.executable, "-c", FACTS], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.splitlines() == ["1 3", "1 3", "int32 int32", "(2.0, 2.0) 2.0 0.0", "2", "2", "3"]
