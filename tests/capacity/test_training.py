"""Memory of a training step, against the allocator and against Korthikanti et al.'s figures."""

from __future__ import annotations

import pytest

from mlsys_lab.capacity import ModelSpec, Parallel, Workload
from mlsys_lab.capacity.activations import activation_bytes, norm_statistics
from mlsys_lab.capacity.held import held, model_state_bytes
from mlsys_lab.capacity.training import training_memory
from mlsys_lab.capacity.zoo import language_model
from tests.capacity.specs import gpt


@pytest.mark.parametrize(
    ("V", "S", "L", "h", "a", "B", "optimizer", "tied", "phase"),
    [
        (1000, 64, 4, 64, 4, 8, "adamw", True, "loss backward"),
        (200, 128, 6, 64, 4, 8, "sgd", True, "loss backward"),
        (2000, 32, 2, 256, 4, 1, "adamw", True, "optimizer step"),
        (2000, 32, 2, 256, 4, 1, "momentum", True, "embedding backward"),
        (2000, 32, 2, 256, 4, 1, "momentum", False, "end of backward"),
        (50, 16, 3, 256, 4, 1, "sgd", False, "first block backward"),
        (50, 64, 8, 128, 4, 8, "adamw", False, "last block backward"),
    ],
)
def test_the_peak_is_the_largest_phase_and_the_allocators_within_a_thousandth(
    V, S, L, h, a, B, optimizer, tied, phase
):
    torch = pytest.importorskip("torch", reason="torch is the oracle: pip install torch")
    from tests.capacity.torch_modules import GPT, measured_peak

    torch.manual_seed(0)
    module = GPT(V, S, L, h, a, tied)
    parameters = module.parameters()
    steps = {
        "adamw": lambda: torch.optim.AdamW(parameters),
        "sgd": lambda: torch.optim.SGD(parameters, lr=0.1),
        "momentum": lambda: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    }
    measured = measured_peak(module, steps[optimizer](), V, S, B)
    work = Workload(S, B, dtype="float32", optimizer=optimizer, step="single")
    ours = training_memory(gpt(L, h, a, V, S, tied), work)
    assert ours.peak_phase == phase
    assert ours.peak_bytes == pytest.approx(measured, rel=1e-3)
    assert sum(ours.parts.values()) == ours.peak_bytes
    assert ours.peak_bytes < 0.97 * sum(max(p.get(k, 0) for p in ours.phases.values()) for k in _parts(ours))


@pytest.mark.parametrize(
    ("V", "S", "L", "h", "a", "B", "optimizer", "phase"),
    [
        (1000, 64, 4, 64, 4, 8, "adamw", "loss backward"),
        (50, 64, 8, 128, 4, 8, "adamw", "last block backward"),
        (50, 16, 3, 256, 4, 1, "sgd", "first block backward"),
        (50, 16, 3, 256, 4, 1, "adamw", "optimizer step"),
    ],
)
def test_the_peak_with_gated_mlps_is_the_allocators_within_a_thousandth(V, S, L, h, a, B, optimizer, phase):
    torch = pytest.importorskip("torch", reason="torch is the oracle: pip install torch")
    from tests.capacity.torch_modules import GPT, GatedBlock, measured_peak

    module = GPT(V, S, L, h, a, False, GatedBlock)
    step = (
        torch.optim.AdamW(module.parameters())
        if optimizer == "adamw"
        else torch.optim.SGD(module.parameters())
    )
    spec = ModelSpec("gated", L, h, a, V, 3 * h, gated=True, positions=S)
    ours = training_memory(spec, Workload(S, B, dtype="float32", optimizer=optimizer, step="single"))
    assert ours.peak_phase == phase
    assert ours.peak_bytes == pytest.approx(measured_peak(module, step, V, S, B), rel=1e-3)


@pytest.mark.parametrize(
    ("V", "S", "L", "h", "a", "B", "times", "recompute", "phase"),
    [
        (50, 64, 8, 128, 4, 8, 2, "none", "last block backward"),
        (4000, 64, 2, 64, 4, 1, 3, "none", "loss backward"),
        (50, 64, 8, 128, 4, 8, 1, "full", "first block again"),
        (50, 128, 12, 64, 4, 16, 1, "full", "last block backward"),
        (50, 128, 12, 64, 4, 16, 2, "full", "last block backward"),
    ],
)
def test_the_peak_with_accumulation_and_recomputation_is_the_allocators(
    V, S, L, h, a, B, times, recompute, phase
):
    torch = pytest.importorskip("torch", reason="torch is the oracle: pip install torch")
    from tests.capacity.torch_modules import GPT, measured_peak

    module = GPT(V, S, L, h, a)
    module.recompute = recompute == "full"
    measured = measured_peak(module, torch.optim.AdamW(module.parameters()), V, S, B, times)
    work = Workload(S, B, B * times, dtype="float32", step="single")
    ours = training_memory(gpt(L, h, a, V, S), work, Parallel(recompute=recompute))
    assert ours.peak_phase == phase
    # With torch's checkpoint each block also keeps the state of the random numbers, 5056 bytes.
    assert ours.peak_bytes == pytest.approx(measured, rel=1e-3 if recompute == "none" else 1e-2)


def _parts(memory):
    return {part for phase in memory.phases.values() for part in phase}


@pytest.mark.parametrize("tp", [1, 4])
@pytest.mark.parametrize(
    ("sp", "recompute", "bytes_per_sbh"),
    [
        (False, "none", lambda t, r: 10 + 24 / t + 5 * r / t),
        (True, "none", lambda t, r: 34 / t + 5 * r / t),
        (False, "selective", lambda t, r: 10 + 24 / t),
        (True, "selective", lambda t, r: 34 / t),
        (False, "full", lambda t, r: 2),
    ],
)
def test_a_layers_activations_are_korthikantis_formula(tp, sp, recompute, bytes_per_sbh):
    if sp and tp == 1:
        sp = False  # both formulas agree there
    spec, s, b = gpt(24, 1024, 16, 51200, 2048), 2048, 2
    work = Workload(s, b, dtype="float16", attention="materialised", dropout=True)
    ours = activation_bytes(spec, work, Parallel(tp=tp, sp=sp, recompute=recompute))
    sbh, ratio = s * b * spec.hidden, spec.heads * s / spec.hidden
    left_out = 0 if recompute == "full" else 2 * norm_statistics(spec) * s * b / (tp if sp else 1)
    assert ours == pytest.approx(spec.layers * (sbh * bytes_per_sbh(tp, ratio) + left_out), rel=1e-12)


def test_a_longer_pipeline_does_not_shrink_the_first_stages_activations_and_interleaving_adds_to_them():
    spec = gpt(24, 1024, 16, 51200, 2048)
    work = Workload(2048, 1, 64, dtype="float16")
    one, four, chunked = (
        activation_bytes(spec, work, Parallel(pp=p, interleave=m)) for p, m in ((1, 1), (4, 1), (4, 3))
    )
    assert four == pytest.approx(one)
    assert chunked == pytest.approx(one * (1 + 3 / 12))
    assert activation_bytes(spec, work, Parallel(pp=4), 3) == pytest.approx(
        one / 4
    )  # the last stage holds one
    few = Workload(2048, 1, 2, dtype="float16")
    assert activation_bytes(spec, few, Parallel(pp=4)) == pytest.approx(one / 2)


def test_mixed_precision_adam_takes_16_bytes_a_parameter_and_zero_divides_by_the_replicas_alone():
    work = Workload(2048)
    whole = model_state_bytes(1e9, work)
    assert sum(whole.values()) == 16e9
    assert sum(model_state_bytes(1e9, work, 64, 1).values()) == pytest.approx(4e9 + 12e9 / 64)
    assert sum(model_state_bytes(1e9, work, 64, 2).values()) == pytest.approx(
        2e9 + 14e9 / 64
    )  # arXiv 1910.02054
    assert sum(model_state_bytes(1e9, work, 64, 3).values()) == pytest.approx(16e9 / 64)
    spec = language_model("llama-2-7b")
    layouts = (Parallel(dp=2, zero=3, tp=4), Parallel(dp=2, zero=3, tp=4, pp=4))
    one, four = (training_memory(spec, work, p).phases["optimizer step"] for p in layouts)
    shards = (
        2 * held(spec, layouts[0]).shared / 2
    )  # bf16 weights of a rank, over two replicas and not over 8 GPUs
    assert one["weights"] == shards
    assert four["weights"] < one["weights"] / 3


@pytest.mark.parametrize(
    "name", ["llama-2-7b", "gpt2-xl", "mixtral-8x7b", "deepseek-v2-lite", "qwen2.5-0.5b"]
)
def test_the_ranks_of_a_layout_hold_the_model_together(name):
    spec = language_model(name)
    alone = held(spec, Parallel())
    assert alone.shared + alone.experts == spec.parameters
    pp = next(p for p in (2, 3) if spec.layers % p == 0)
    stages = [held(spec, Parallel(pp=pp), stage) for stage in range(pp)]
    copy = spec.vocab * spec.hidden if spec.tied else 0  # of the tied output, on the last stage
    assert sum(s.shared + s.experts for s in stages) == spec.parameters + copy
    if spec.moe:
        spread = held(spec, Parallel(dp=4, ep=4))
        assert spread.experts * 4 == alone.experts
        assert spread.shared == alone.shared


def test_tensor_parallel_ranks_split_matrices_and_repeat_norms_and_key_value_heads_beyond_their_number():
    spec = language_model("llama-3-8b")  # 8 key-value heads
    per_layer = 2 * spec.hidden * 1024  # keys and values
    eight, sixteen = held(spec, Parallel(tp=8)), held(spec, Parallel(tp=16))
    norms = spec.parts["norm"]
    assert eight.shared == (spec.parameters - norms) // 8 + norms
    rest = spec.parameters - norms - spec.layers * per_layer
    assert sixteen.shared == rest // 16 + spec.layers * per_layer // 8 + norms
