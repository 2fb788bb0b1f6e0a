"""The library's own GPT: the memory of its training step, block by block, against the closed form."""

from __future__ import annotations

import pytest

from mlsys_lab import optim
from mlsys_lab.capacity import ModelSpec, Workload, trace, training_memory
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
