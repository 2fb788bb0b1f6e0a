"""The library's own GPT: a training step's memory against the closed form, its time against its FLOPs."""

from __future__ import annotations

import numpy as np
import pytest

from mlsys_lab import optim
from mlsys_lab.capacity import ModelSpec, Workload, trace, train_flops, training_memory
from mlsys_lab.capacity.machine import cpu_seconds
from tests.capacity.test_engine_trace import gpt, loss_step


def measured_and_estimated(width, layers, vocabulary, context, batch):
    model, tokens = gpt(width, layers, vocabulary, context, batch)
    traced = trace(model, tokens, optim.AdamW(model.parameters()), step=loss_step)
    spec = ModelSpec(
        "own", layers, width, 4, vocabulary, 4 * width, tied=True, qkv_bias=True, o_bias=True, mlp_bias=True,
        positions=context,
    )  # fmt: skip
    assert spec.parameters == sum(p.size for p in model.parameters())
    work = Workload(context, batch, dtype="float32", loss="fused")
    return traced, training_memory(spec, work), tokens.nbytes


@pytest.mark.parametrize("shape", [(64, 3, 512, 64, 4), (128, 4, 1000, 128, 4), (32, 2, 2000, 32, 8)])
def test_where_the_vocabulary_makes_the_peak_the_estimate_is_exact_but_for_a_few_scalars(shape):
    traced, found, tokens = measured_and_estimated(*shape)
    assert found.peak_phase == "head backward"
    assert 0 <= traced.peak_bytes - tokens - found.peak_bytes <= 64
    parts = traced.parts_at_peak()
    for ours, theirs in (("weights", "parameters"), ("optimizer", "optimiser"), ("gradients", "gradients"),
                         ("temporaries", "temporaries")):  # fmt: skip
        assert found.parts[ours] == parts[theirs]
    assert 0 <= parts["activations"] - found.parts["activations"] - found.parts["logits"] <= 64


@pytest.mark.parametrize("shape", [(128, 6, 256, 64, 16), (192, 2, 300, 128, 8), (256, 2, 64, 32, 4)])
def test_where_the_blocks_make_the_peak_it_is_within_three_percent(shape):
    """The engine's backward of a block holds other temporaries than torch's, after which the form is made."""
    traced, found, _ = measured_and_estimated(*shape)
    assert found.peak_bytes == pytest.approx(traced.peak_bytes, rel=0.03)


def test_a_large_steps_time_lies_between_its_products_and_two_and_a_half_times_them():
    """The estimate: all FLOPs at the rate of one product of the step's size, to 2.5 times that for the rest.

    In CPU time of one thread, the product and the step in turn, so that a busy machine slows both.
    """
    width, layers, vocabulary, context, batch = 256, 2, 500, 128, 4
    model, tokens = gpt(width, layers, vocabulary, context, batch)
    optimizer = optim.AdamW(model.parameters())
    spec = ModelSpec(
        "own", layers, width, 4, vocabulary, 4 * width, tied=True, qkv_bias=True, o_bias=True, mlp_bias=True,
        positions=context,
    )  # fmt: skip
    flops = train_flops(spec, batch, context)
    rng = np.random.default_rng(0)
    x, w = (rng.random(s, dtype=np.float32) for s in ((batch * context, width), (width, 4 * width)))
    out = np.empty((batch * context, 4 * width), np.float32)
    loss_step(model, tokens, optimizer)
    inside = []
    for _ in range(5):
        product_s = cpu_seconds(lambda: np.matmul(x, w, out=out), rounds=3)
        low_s = flops * product_s / (2 * x.size * 4 * width)
        step_s = cpu_seconds(lambda: loss_step(model, tokens, optimizer), least_s=0.03, rounds=3)
        inside.append(0.85 * low_s <= step_s <= 2.5 * low_s)
    assert sum(inside) >= 3
