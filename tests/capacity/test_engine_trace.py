"""The peak of the engine's own training step: every block that NumPy tells tracemalloc of, and no other."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

import mlsys_lab.autograd as ag
from mlsys_lab import nn, optim
from mlsys_lab.capacity import trace
from mlsys_lab.capacity.engine_trace import Tracker
from mlsys_lab.capacity.numpy_memory import listening

NUMPY = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)


def data(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def mlp(batch=64):
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 10))
    return model, ag.Tensor(data(batch, 64))


def gpt(width=32, layers=2, vocabulary=128, context=24, batch=2):
    made = nn.GPT(
        nn.GPTConfig(vocab_size=vocabulary, block_size=context, n_layer=layers, n_head=4, n_embd=width)
    )
    return made, np.random.default_rng(0).integers(0, vocabulary, (batch, context))


def sum_step(model, x, optimizer):
    model(x).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def loss_step(model, tokens, optimizer):
    logits = model(tokens)
    loss = nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), tokens.reshape(-1))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


CASES = {
    "mlp, AdamW": (mlp, optim.AdamW, {}, sum_step),
    "mlp, SGD": (mlp, optim.SGD, {"lr": 0.1}, sum_step),
    "mlp, momentum": (mlp, optim.SGD, {"lr": 0.1, "momentum": 0.9}, sum_step),
    "gpt, AdamW": (gpt, optim.AdamW, {}, loss_step),
}  # fmt: skip


def of_numpy():
    """Bytes that tracemalloc has of NumPy's arrays now."""
    return sum(t.size for t in tracemalloc.take_snapshot().filter_traces([NUMPY]).traces)


class Held(Tracker):
    """Compares itself with tracemalloc at each new maximum, where the newest block is not told of yet."""

    def __init__(self):
        super().__init__({})
        self.pairs = []

    def hear(self, address, size):
        super().hear(address, size)
        if size and self.timeline[-1] == max(self.timeline):
            self.pairs.append((self.timeline[-1] - size, of_numpy()))


@pytest.mark.parametrize("case", CASES)
def test_at_every_new_maximum_the_blocks_are_those_that_numpy_told_tracemalloc_of(case):
    build, optimiser, options, step = CASES[case]
    model, inputs = build()
    optimizer, tracker = optimiser(model.parameters(), **options), Held()
    gc.collect()
    tracemalloc.start()
    try:
        with listening(tracker.hear):
            for _ in range(2):
                step(model, inputs, optimizer)
                assert tracker.timeline[-1] == of_numpy()
    finally:
        tracemalloc.stop()
    assert len(tracker.pairs) > 5
    assert [ours for ours, _ in tracker.pairs] == [theirs for _, theirs in tracker.pairs]


@pytest.mark.parametrize("case", CASES)
def test_the_peak_is_tracemallocs_less_the_objects_of_python(case):
    """With batches so large that Python's own objects, which tracemalloc counts too, are a small part."""
    build, optimiser, options, step = CASES[case]
    model, inputs = build(batch=4096) if build is mlp else build(64, 2, 1024, 64, 16)
    optimizer = optimiser(model.parameters(), **options)
    traced = trace(model, inputs, optimizer, step=step)
    before = sum(s.bytes for s in traced.storages if s.part in ("parameters", "inputs"))
    optimizer = optimiser(model.parameters(), **options)
    tracemalloc.start()
    try:
        for _ in range(2):
            step(model, inputs, optimizer)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0 <= peak + before - traced.peak_bytes <= 0.03 * traced.peak_bytes


def test_nothing_of_model_and_optimiser_is_changed():
    model, tokens = gpt()
    optimizer = optim.AdamW(model.parameters())
    loss_step(model, tokens, optimizer)
    values = [np.array(p.data) for p in model.parameters()]
    state = optimizer.state_dict()
    trace(model, tokens, optimizer, step=loss_step)
    assert all(np.array_equal(a, p.data) for a, p in zip(values, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
    after = optimizer.state_dict()
    for number, entry in state["state"].items():
        for name, value in entry.items():
            assert np.array_equal(value, after["state"][number][name])
    loss_step(model, tokens, optimizer)


def test_parts_lines_and_modules_of_the_peak_are_named():
    model, tokens = gpt(64, 3, 512, 48, 4)
    optimizer = optim.AdamW(model.parameters())
    traced = trace(model, tokens, optimizer, step=loss_step)
    size = 4 * sum(p.size for p in model.parameters())
    parts = traced.parts_at_peak()
    assert (parts["parameters"], parts["optimiser"]) == (size, 2 * size)
    assert sum(parts.values()) == traced.peak_bytes
    assert traced.peak.is_exact
    assert "transformer.h.0.mlp" in traced.modules_at_peak()
    first = loss_step.__code__.co_firstlineno
    assert f"test_engine_trace.py:{first + 1}" in traced.lines_at_peak(), "the line of the forward pass"
    most = max(s.bytes for s in traced.storages if s.part == "gradients")
    assert most >= 4 * 512 * 64, "the embedding's gradient is told"


def test_without_an_optimiser_a_step_ends_after_backward():
    model, x = mlp()
    traced = trace(model, x)
    assert "optimiser" not in {s.part for s in traced.storages}
    assert traced.peak_bytes > sum(p.data.nbytes for p in model.parameters())


def test_one_trace_at_a_time_and_arrays_outlive_it():
    with listening(lambda *_: None):
        kept = np.ones(1000)
        with pytest.raises(RuntimeError, match="one trace at a time"), listening(lambda *_: None):
            pass
    assert kept.sum() == 1000
    del kept


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda m, x: trace(m, x, recompute=["0"]), ValueError, "engine does not recompute"),
        (lambda m, x: trace(m, x).savings(), ValueError, "only a torch module's step"),
        (
            lambda m, x: trace("model", x),
            TypeError,
            "expected a torch.nn.Module or one of mlsys_lab.nn, got str",
        ),
    ],
)
def test_what_cannot_be_traced_is_said(call, error, said):
    if error is TypeError:
        pytest.importorskip("torch")
    with pytest.raises(error, match=said):
        call(*mlp())


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.empty(1000),
        lambda: np.zeros((30, 50), np.float32),
        lambda: np.fromiter(iter(range(5000)), np.int64),
        lambda: np.ones(100).repeat(7)[::2],
    ],
    ids=["malloc", "calloc", "realloc", "a look at another's memory"],
)
def test_each_way_of_taking_memory_is_heard_with_its_size_and_given_back(make):
    tracker = Tracker({})
    tracemalloc.start()
    try:
        with listening(tracker.hear):
            kept = make()
            assert tracker.timeline[-1] == of_numpy() >= kept.nbytes
            del kept
            assert tracker.timeline[-1] == 0
    finally:
        tracemalloc.stop()
