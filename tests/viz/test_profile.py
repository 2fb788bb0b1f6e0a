"""The profiler: its counts against hand formulas and torch's counter, its trace against the format."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
import threading
from html.parser import HTMLParser

import numpy as np
import pytest

import mlsys_lab.autograd as ag
from mlsys_lab import viz
from mlsys_lab.autograd.tape import mode, table
from mlsys_lab.viz.flops import PER_ELEMENT, PRODUCTS

B, N_IN, HIDDEN, OUT = 8, 5, 7, 3
RNG = np.random.default_rng(3)


def array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def leaf(*shape: int) -> ag.Tensor:
    return ag.Tensor(array(*shape), requires_grad=True)


def sums(p: viz.profile) -> dict:
    return {(row.name, row.phase): row for row in p.rows()}


@pytest.fixture
def mlp() -> viz.profile:
    x, w1, b1, w2 = ag.Tensor(array(B, N_IN)), leaf(N_IN, HIDDEN), leaf(HIDDEN), leaf(HIDDEN, OUT)
    with viz.profile() as p:
        loss = ag.mean(ag.square(ag.relu(x @ w1 + b1) @ w2))
        loss.backward()
    return p


def test_flops_of_an_mlp_are_those_of_the_hand_formulas(mlp):
    rows = sums(mlp)
    first, second = 2 * B * N_IN * HIDDEN, 2 * B * HIDDEN * OUT
    assert rows["matmul", "forward"].flops == first + second
    assert rows["matmul", "backward"].flops == first + 2 * second  # the data need no gradient
    assert rows["add", "forward"].flops == rows["relu", "forward"].flops == B * HIDDEN
    assert rows["square", "forward"].flops == rows["mean", "forward"].flops == B * OUT


def test_bytes_of_an_mlp_are_those_of_the_hand_formulas(mlp):
    rows = sums(mlp)
    sizes = {
        ("matmul", "forward"): (B * N_IN + N_IN * HIDDEN + B * HIDDEN + HIDDEN * OUT, B * HIDDEN + B * OUT),
        ("add", "forward"): (B * HIDDEN + HIDDEN, B * HIDDEN),
        ("relu", "forward"): (B * HIDDEN, B * HIDDEN),
        ("relu", "backward"): (2 * B * HIDDEN, B * HIDDEN),
        ("mean", "forward"): (B * OUT, 1),
        ("add", "backward"): (0, 0),  # hands the gradient on
        ("matmul", "backward"): (
            (B * HIDDEN + B * N_IN) + (B * OUT + HIDDEN * OUT) + (B * OUT + B * HIDDEN),
            N_IN * HIDDEN + B * HIDDEN + HIDDEN * OUT,
        ),
    }
    got = {key: (rows[key].bytes_read, rows[key].bytes_written) for key in sizes}
    assert got == {key: (4 * read, 4 * written) for key, (read, written) in sizes.items()}


def test_calls_are_one_per_operation_and_one_per_argument_with_a_gradient(mlp):
    calls = {key: row.calls for key, row in sums(mlp).items()}
    one = {(name, phase): 1 for name in ("relu", "square", "mean") for phase in ("forward", "backward")}
    assert calls == one | {
        ("matmul", "forward"): 2, ("matmul", "backward"): 3, ("add", "forward"): 1, ("add", "backward"): 2,
    }  # fmt: skip


def test_the_tape_holds_what_backward_reads_and_lets_all_of_it_go(mlp):
    saved = 4 * (B * N_IN + B * HIDDEN + B * OUT)  # data, relu's result, square's argument; no parameter
    assert mlp.peak_bytes == saved
    forward = [e.live_bytes for e in mlp.events if e.phase == "forward"]
    assert forward == [4 * n for n in (40, 40, 40 + 56, 40 + 56, 40 + 56 + 24, 40 + 56 + 24)]
    backward = [e.live_bytes for e in mlp.events if e.phase == "backward"]
    assert backward == sorted(backward, reverse=True)
    assert mlp.live_bytes == 0


def test_a_graph_that_is_dropped_lets_its_memory_go():
    x = leaf(4, 4)
    with viz.profile() as p:
        y = ag.exp(x * 2.0)
        assert p.live_bytes >= 64
        del y
        assert p.live_bytes == 0


@pytest.mark.parametrize("causal", [False, True])
def test_flops_of_an_attention_block_are_those_of_the_hand_formulas(causal):
    batch, heads, t, d = 2, 3, 6, 4
    q, k, v = (leaf(batch, heads, t, d) for _ in range(3))
    with viz.profile() as p:
        ag.sum(ag.softmax(q @ ag.matrix_transpose(k), axis=-1) @ v).backward()
        ag.sum(ag.attention(q, k, v, causal=causal)).backward()
    rows = sums(p)
    product = 2 * batch * heads * t * t * d
    assert rows["matmul", "forward"].flops == 2 * product
    assert rows["matmul", "backward"].flops == 4 * product
    assert rows["softmax", "forward"].flops == 5 * batch * heads * t * t
    pairs = batch * heads * (t * (t + 1) // 2 if causal else t * t)
    assert rows["attention", "forward"].flops == pairs * (4 * d + 6)
    assert rows["attention", "backward"].flops == pairs * (10 * d + 5)
    assert rows["attention", "forward"].bytes_read == 3 * 4 * batch * heads * t * d


def test_products_of_a_convolution_and_an_einsum_are_what_torch_counts():
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    arrays = array(2, 3, 8, 8), array(5, 3, 3, 3), array(4, 6), array(6, 7)
    ours = [ag.Tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    with viz.profile() as p:
        ag.sum(ag.conv2d(ours[0], ours[1], padding=1)).backward()
        ag.sum(ag.square(ag.einsum("ij,jk->ik", ours[2], ours[3]))).backward()
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.conv2d(theirs[0], theirs[1], padding=1).sum().backward()
        torch.einsum("ij,jk->ik", theirs[2], theirs[3]).square().sum().backward()
    assert sum(e.flops for e in p.events if e.name in PRODUCTS) == counter.get_total_flops()


def test_time_is_that_of_the_operation_and_not_of_what_lies_between():
    now = itertools.count()
    x = leaf(3)
    with viz.profile(clock=lambda: float(next(now))) as p:
        for _ in range(100):
            next(now)
        y = x * 2.0
        for _ in range(1000):
            next(now)
        ag.sum(y).backward()
    assert [e.time_s for e in p.events if e.phase == "forward"] == [1.0, 1.0]
    assert p.between_s > 1100
    assert p.between_s + sum(e.time_s for e in p.events) == p.wall_s


def test_gradients_are_the_same_bits_with_and_without_a_profile():
    a, b = array(4, 5), array(5)

    def grads() -> list[np.ndarray]:
        x, y = ag.Tensor(a, requires_grad=True), ag.Tensor(b, requires_grad=True)
        z = ag.concat([ag.layer_norm(ag.tanh(x), y, y), x / (1.0 + y * y)], axis=0)
        (g,) = ag.grad(ag.sum(z[1:] * z[:-1]), x, create_graph=True)
        ag.sum(g * g).backward()
        return [x.grad.numpy(), y.grad.numpy()]

    plain = grads()
    with viz.profile() as p:
        watched = grads()
    for one, other in zip(plain, watched, strict=True):
        np.testing.assert_array_equal(one, other)
    assert {"concat", "layer_norm", "getitem"} <= {e.name for e in p.events}


def test_only_its_own_thread_is_heard_and_everything_is_put_back_after_an_error():
    forwards, x = {name: op.forward for name, op in table.items()}, leaf(3)
    p = viz.profile()

    def fail() -> None:
        with p:
            thread = threading.Thread(target=lambda: x * 2.0)
            thread.start()
            thread.join()
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        fail()
    x * 2.0
    assert p.events == []
    assert mode.observer is None
    assert {name: op.forward for name, op in table.items()} == forwards


def test_a_gather_reads_the_rows_that_it_picks_and_not_the_table():
    weight, indices = leaf(1000, 4), np.array([1, 5, 5])
    with viz.profile() as p:
        ag.embedding(indices, weight).backward(np.ones((3, 4), np.float32))
    forward, backward = p.events
    assert (forward.bytes_read, forward.bytes_written, forward.flops) == (3 * 16 + 3 * 8, 3 * 16, 0)
    assert (backward.bytes_read, backward.bytes_written) == (3 * 16 + 3 * 8, 1000 * 16)
    assert backward.flops == 3 * 4


def test_every_row_of_the_flop_tables_is_an_operation_with_a_rule_per_argument():
    for name, counts in PER_ELEMENT.items():
        op = table[name]
        assert op.joint is not None or len(counts) - 1 == len(op.rules), name
    assert set(PRODUCTS) <= set(table)
    assert not set(PRODUCTS) & set(PER_ELEMENT)


def test_the_table_is_escaped_html_and_says_which_operation_has_no_formula():
    cube = ag.primitive("<b>&cube", lambda x: x * x * x, lambda g, x: 3 * g * x * x)
    with viz.profile() as p:
        ag.sum(cube(leaf(3))).backward()
    html = p._repr_html_()
    assert "<b>" not in html

    class Cells(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.said: list[str] = []

        def handle_starttag(self, tag: str, attrs: list) -> None:
            self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

        def handle_data(self, data: str) -> None:
            self.said.append(data)

    cells = Cells()
    cells.feed(html)
    assert cells.open == []
    for word in cells.said[1:]:
        assert word in repr(p)  # the text says every cell that the table shows
    assert "FLOPs not known: <b>&cube." in repr(p)
    json.dumps(p.to_json())


# Perfetto's own parser is not on this machine; this is the Trace Event Format document as a schema.
KEYS = {
    "M": {"ph": str, "name": str, "pid": int, "tid": int, "args": dict},
    "X": {
        "ph": str, "name": str, "cat": str, "ts": float, "dur": float, "pid": int, "tid": int, "args": dict,
    },
    "C": {"ph": str, "name": str, "ts": float, "pid": int, "tid": int, "args": dict},
}  # fmt: skip


def test_the_trace_has_the_keys_types_order_and_nesting_of_the_format(tmp_path):
    def inner(g, x, y):  # a rule that works on tensors: operations inside an operation
        g = ag.Tensor(g)
        return (g * ag.Tensor(y)).data, (g * ag.Tensor(x)).data

    w = leaf(6, 6)
    with ag.override("multiply", inner), viz.profile() as p:
        ag.sum(ag.tanh(w @ w) * w).backward()
    p.to_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text(), parse_constant=pytest.fail)
    assert set(trace) == {"traceEvents", "displayTimeUnit"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    for e in trace["traceEvents"]:
        assert {key: type(value) for key, value in e.items()} == KEYS[e["ph"]]
        assert all(math.isfinite(e[key]) and e[key] >= 0 for key in ("ts", "dur") if key in e)
    named = {e["name"]: e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M"}
    assert set(named) == {"process_name", "thread_name"}
    spans = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    counters = [e for e in trace["traceEvents"] if e["ph"] == "C"]
    assert len(spans) == len(counters) == len(p.events)
    assert all(isinstance(v, int) for e in counters for v in e["args"].values())
    assert [e["ts"] for e in spans] == sorted(e["ts"] for e in spans)
    stack, deepest = [], 0
    for e in spans:
        while stack and stack[-1] <= e["ts"]:
            stack.pop()
        assert not stack or e["ts"] + e["dur"] <= stack[-1] + 1e-6
        stack.append(e["ts"] + e["dur"])
        deepest = max(deepest, len(stack))
    assert deepest == 2


def test_nothing_happens_at_import():
    code = (
        "import sys, mlsys_lab.autograd as ag, mlsys_lab.viz\n"
        "from mlsys_lab.autograd.tape import mode, table\n"
        "assert mode.observer is None and 'matplotlib' not in sys.modules\n"
        "assert not any('timed' in getattr(op.forward, '__qualname__', '') for op in table.values())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_saved_number_without_axes_is_counted_too():
    with viz.profile() as p:
        ag.exp(leaf(2, 3).sum()).backward()
    assert [e.live_bytes for e in p.events if e.phase == "forward"] == [0, 4]
    assert p.live_bytes == 0
