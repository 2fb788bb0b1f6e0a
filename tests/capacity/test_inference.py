"""Serving: times and batches against sums by hand, plans against a plain search, what must be monotone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsys_lab._core.hardware import device
from mlsys_lab.capacity import Load, ModelSpec, NoPlan, Serving, fewest_gpus, language_model
from mlsys_lab.capacity.inference import LATENCY
from mlsys_lab.capacity.op_time import STREAMING, gemm_efficiency, link_efficiency
from mlsys_lab.capacity.serving_plan import ServingPlan, smallest

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; sys.argv[0] = 'mlsys-lab'; from mlsys_lab.cli import main; main()"
H100 = device("H100")
LLAMA_70B = language_model("llama-2-70b")
#: By hand: 80 layers of query and output 8192 x 8192, key and value 1024 x 8192, three of 28672 x 8192.
LAYER = 2 * 8192**2 + 2 * 1024 * 8192 + 3 * 28672 * 8192
WEIGHTS = 80 * (LAYER + 2 * 8192) + 2 * 32000 * 8192 + 8192


def small(**changes):
    """A decoder with two key-value heads."""
    sizes = {"kv_heads": 2, "head_dim": 64, "gated": True, "norm": "rms"} | changes
    return ModelSpec("small", 12, 512, 8, 32_000, 2048, **sizes)


# ---- memory


def test_weights_of_llama_2_70b_read_once_at_an_h100s_bandwidth_take_41_ms():
    one = Serving(LLAMA_70B, H100)
    assert one.weight_bytes == 2 * WEIGHTS == 137_953_296_384
    assert one.read_bytes(1) / H100.memory_bytes_per_s == pytest.approx(41.2e-3, abs=0.05e-3)
    floor = one.floor_s()
    assert (floor.low, floor.mid, floor.high) == pytest.approx(
        (41.18e-3 / 0.9, 41.18e-3 / 0.8, 41.18e-3 / 0.7), rel=1e-4
    )
    assert floor.basis == "assumed"


def test_llama_2_70b_does_not_fit_one_h100_and_says_by_how_much():
    over = 2 * WEIGHTS + 8_000_000_000 + 768 * 327_680 - 80_000_000_000
    assert over == 66_204_954_624
    with pytest.raises(NoPlan, match=r"tp 1 breaks memory: .* are 66\.2 GB more than 80 GB; --tp 2 has room"):
        fewest_gpus(LLAMA_70B, H100, Load(5, 512, 256, 0.5, 0.05), tp=1)


@pytest.mark.parametrize(("tp", "heads"), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_each_gpu_caches_its_key_value_heads(tp, heads):
    assert Serving(LLAMA_70B, H100, tp).kv_bytes(100) == 100 * 80 * 2 * heads * 128 * 2


def test_beyond_the_key_value_heads_each_gpu_has_a_whole_one():
    assert Serving(small(), H100, 8).kv_bytes(1) == Serving(small(), H100, 2).kv_bytes(1) == 12 * 2 * 64 * 2


def test_the_latent_cache_is_on_every_gpu():
    """DeepSeek-V3: 512 compressed and 64 rotary numbers in each of 61 layers."""
    assert Serving(language_model("deepseek-v3"), H100, 8).kv_bytes(1) == 61 * (512 + 64) * 2


def test_four_bit_weights_leave_embedding_head_and_norms_in_sixteen():
    m = language_model("llama-3-8b")
    matrices = 32 * (2 * 4096**2 + 2 * 1024 * 4096 + 3 * 14336 * 4096)
    others = 2 * 128_256 * 4096 + 65 * 4096
    assert Serving(m, H100, dtype="int4").weight_bytes == matrices // 2 + 2 * others
    assert Serving(m, H100, dtype="float8").weight_bytes == matrices + 2 * others


@given(st.integers(1, 200_000), st.sampled_from([2, 4, 8]))
def test_the_largest_batch_fits_and_one_more_does_not(tokens, tp):
    s = Serving(LLAMA_70B, H100, tp)
    fixed, each = s.weight_bytes + 8_000_000_000, s.kv_bytes(tokens)
    assert fixed + s.largest_batch(tokens) * each <= 80_000_000_000
    assert fixed + (s.largest_batch(tokens) + 1) * each > 80_000_000_000


# ---- time


def test_a_decode_step_is_weights_and_cache_over_the_bandwidth():
    step = Serving(language_model("llama-2-7b"), H100).decode_s(16, 1000)
    size = 2 * 6_738_415_616 + 16 * 1000 * 2 * 32 * 32 * 128 * 2
    for end, share in (("low", 0.9), ("mid", 0.8), ("high", 0.7)):
        assert getattr(step, end) == pytest.approx(size / 3.35e12 / share, rel=1e-12)


def test_a_large_batch_of_short_sequences_is_bound_by_arithmetic():
    """Two FLOPs a weight but the table of embeddings, and four per head, position and unit of attention."""
    m, batch = language_model("llama-2-7b"), 4096
    products = 32 * (4 * 4096**2 + 3 * 11008 * 4096) + 32_000 * 4096
    flops = batch * (2 * products + 4 * 32 * 4096 * 2)
    one = Serving(m, H100)
    assert one.decode_flops(batch, 2) == flops
    took, share = one.decode_s(batch, 2), gemm_efficiency(H100)
    assert took.mid == pytest.approx(flops / 989.4e12 / share.mid)
    assert took.mid > (2 * m.parameters + batch * one.kv_bytes(2)) / 3.35e12 / STREAMING.mid


def test_prefill_is_flops_over_peak_and_efficiency():
    """Causal attention has n (n + 1) / 2 pairs; the output layer takes the last position alone."""
    n, one = 512, Serving(LLAMA_70B, H100)
    flops = 2 * 80 * LAYER * n + 2 * 32_000 * 8192 + 4 * 80 * 8192 * n * (n + 1) // 2
    assert one.prefill_flops(n) == flops
    took, share = one.prefill_s(n), gemm_efficiency(H100)
    assert (took.low, took.mid, took.high) == pytest.approx(
        [flops / 989.4e12 / x for x in (share.high, share.mid, share.low)]
    )
    assert set(share.rows) < set(took.rows)


def test_prefill_of_one_token_reads_the_weights():
    one = Serving(LLAMA_70B, H100)
    assert one.prefill_s(1).mid == pytest.approx(one.floor_s().mid)


def test_tensor_parallelism_adds_two_all_reduces_a_layer():
    two, batch = Serving(LLAMA_70B, H100, 2), 8
    read = (two.weight_bytes + batch * two.kv_bytes(100)) / 3.35e12 / 0.8
    ring = batch * 8192 * 2 * 2 * (2 - 1) / 2 / (450e9 * link_efficiency().mid)
    assert two.decode_s(batch, 100).mid == pytest.approx(read + 160 * (ring + LATENCY.mid))


@pytest.mark.parametrize("batch", [1, 3, 8, 100])
def test_experts_that_a_batch_reads_are_those_of_random_draws(batch):
    """Mixtral asks 2 of 8 experts a token, each three of 14336 x 4096, in 32 layers: by drawing them."""
    m, rng = language_model("mixtral-8x7b"), np.random.default_rng(0)
    asked = np.mean([len({e for _ in range(batch) for e in rng.permutation(8)[:2]}) for _ in range(2000)])
    each = 32 * 3 * 14336 * 4096
    expected = 2 * (m.parameters - 8 * each + asked * each)
    assert Serving(m, H100, reserve=0).read_bytes(batch) == pytest.approx(expected, rel=0.01)


def test_latent_attention_works_as_wide_as_its_cache():
    """DeepSeek-V3: 128 heads, scores over 512 + 64 numbers and values over 512, in 61 layers."""
    s = Serving(language_model("deepseek-v3"), H100, 8)
    assert s.decode_flops(3, 101) - s.decode_flops(3, 100) == 3 * 61 * 128 * 2 * (512 + 64 + 512)


# ---- plans


def searched(serving, load, replicas):
    """The plan by trying one batch after the other, or None."""
    for batch in range(1, serving.largest_batch(load.tokens) + 1):
        plan = ServingPlan(serving, replicas, load, batch)
        if plan.prefill_share.high >= 1:
            return None
        if batch >= load.rate / replicas * (load.output - 1) * plan.tpot_s.mid:
            late = (load.output > 1 and plan.tpot_s.mid > load.tpot) or plan.ttft_s.mid > load.ttft
            return None if late else plan
    return None


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1, 2, 4, 8]), st.floats(0.1, 60), st.integers(16, 3000), st.integers(1, 300),
    st.floats(0.03, 0.5), st.floats(0.01, 0.06),
)  # fmt: skip
def test_a_plan_is_what_a_plain_search_finds(tp, rate, prompt, output, ttft, tpot):
    serving, load = Serving(LLAMA_70B, H100, tp), Load(rate, prompt, output, ttft, tpot)
    found = smallest(serving, load)
    by_search = (searched(serving, load, replicas) for replicas in range(1, 60))
    first = next((plan for plan in by_search if plan), None)
    if isinstance(found, ServingPlan) and found.replicas < 60:
        assert first is not None
        assert (first.replicas, first.batch) == (found.replicas, found.batch)
    else:
        assert first is None


def test_the_fewest_gpus_are_the_fewest_over_all_tp():
    load = Load(20, 512, 256, 0.5, 0.05)
    each = [smallest(Serving(LLAMA_70B, H100, tp), load) for tp in (2, 4, 8)]
    assert fewest_gpus(LLAMA_70B, H100, load).gpus == min(p.gpus for p in each)
    assert fewest_gpus(LLAMA_70B, H100, load, tp=8).serving.tp == 8


def test_the_wait_for_prefills_is_that_of_a_simulated_queue():
    """Poisson arrivals, fixed service, one server: Lindley's recursion over 400,000 requests."""
    plan = ServingPlan(Serving(LLAMA_70B, H100, 2), 1, Load(11, 512, 2, 9, 9), 1)
    service = plan.serving.prefill_s(512).mid
    gaps = np.random.default_rng(1).exponential(1 / 11, 400_000)
    wait, total = 0.0, 0.0
    for gap in gaps:
        wait = max(wait + service - gap, 0.0)
        total += wait
    assert plan.prefill_share.mid == pytest.approx(11 * service)
    assert plan.ttft_s.mid - service - plan.step_s.mid == pytest.approx(total / len(gaps), rel=0.03)


def test_parts_of_a_gpu_add_up_to_its_memory():
    plan = fewest_gpus(LLAMA_70B, H100, Load(5, 512, 256, 0.5, 0.05))
    assert sum(plan.parts.values()) == 80_000_000_000
    assert min(plan.parts.values()) >= 0
    assert plan.parts["KV cache"] == plan.batch * 768 * 2 * 80 * 8 // plan.serving.tp * 128 * 2


# ---- what must be monotone


@given(st.floats(1, 10), st.integers(1, 512), st.integers(1, 8192), st.sampled_from([1, 2, 8]))
def test_more_bandwidth_is_never_slower(times, batch, context, tp):
    faster = replace(H100, memory_bytes_per_s=H100.memory_bytes_per_s * times)
    slow, fast = Serving(LLAMA_70B, H100, tp), Serving(LLAMA_70B, faster, tp)
    for before, after in (
        (slow.decode_s(batch, context), fast.decode_s(batch, context)),
        (slow.prefill_s(context), fast.prefill_s(context)),
    ):
        assert (after.low, after.mid, after.high) <= (before.low, before.mid, before.high)


@pytest.mark.parametrize("name", ["llama-2-7b", "mixtral-8x7b", "deepseek-v3"])
@pytest.mark.parametrize("tp", [1, 8])
def test_a_larger_batch_takes_longer_and_makes_no_fewer_tokens_per_second(name, tp):
    s, sizes = Serving(language_model(name), H100, tp), [*range(1, 40), 64, 100, 333, 1000, 5000]
    for few, many in pairwise(sizes):
        slower, faster = s.decode_s(few, 700), s.decode_s(many, 700)
        for end in ("low", "mid", "high"):
            assert getattr(faster, end) >= getattr(slower, end)
            assert many / getattr(faster, end) >= few / getattr(slower, end) * (1 - 1e-12)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 200), st.floats(1, 10), st.floats(0.1, 1), st.floats(0.01, 0.1))
def test_more_requests_or_tighter_promises_never_take_fewer_gpus(rate, times, ttft, tpot):
    load = Load(rate, 512, 128, ttft * 2, tpot * 2)

    def gpus(of):
        try:
            return fewest_gpus(LLAMA_70B, H100, of).gpus
        except NoPlan:
            return float("inf")

    assert gpus(load) <= gpus(replace(load, rate=rate * times))
    assert gpus(load) <= gpus(replace(load, ttft=ttft))
    assert gpus(load) <= gpus(replace(load, tpot=tpot))


# ---- the command


def run(*arguments):
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", MAIN, "estimate", *arguments],
        cwd=ROOT, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip


ASKED = {
    "--gpu": "H100", "--rate": "5", "--prompt": "512", "--output": "256", "--ttft": "500ms", "--tpot": "50ms",
}  # fmt: skip


def serve(name="llama-2-70b", **changes):
    asked = ASKED | {f"--{key.replace('_', '-')}": value for key, value in changes.items()}
    return ("serve", name, *(word for pair in asked.items() for word in pair))


def test_json_and_derivation_tell_the_plan():
    done = run(*serve(), "--json")
    assert done.returncode == 0, done.stderr
    found, plan = json.loads(done.stdout), fewest_gpus(LLAMA_70B, H100, Load(5, 512, 256, 0.5, 0.05))
    assert (found["gpus"], found["batch"]) == (plan.gpus, plan.batch)
    for key in ("ttft_s", "tpot_s", "throughput_tokens_per_s"):
        assert found[key] == getattr(plan, key).to_json()
    explained = run(*serve(), "--explain").stdout
    assert "(80,000,000,000 - 8,000,000,000 - 68,977,967,104) / (163,840 bytes x 768 tokens)" in explained
    assert "NVIDIA H100 datasheet" in explained


WRONG = [
    (serve(gpu="H1000"), 2, r"unknown device 'H1000'; the nearest are H100"),
    (serve("lama-2-70b"), 2, r"unknown model 'lama-2-70b'; the nearest are llama-2-70b"),
    (serve("resnet50"), 2, r"resnet50 is not a transformer"),
    (serve("bert"), 2, r"bert-base-uncased does not generate: choose a decoder"),
    (serve(rate="-1"), 2, r"--rate has to be above 0 requests per second, got -1"),
    (serve(rate="nan"), 2, r"--rate has to be above 0 requests per second, got nan"),
    (serve(prompt="0"), 2, r"--prompt has to be at least 1, got 0"),
    (serve(output="-3"), 2, r"--output has to be at least 1, got -3"),
    (serve(ttft="500"), 2, r"--ttft '500': the unit is missing, write 500ms or 500s"),
    (serve(tpot="50GB"), 2, r"--tpot: '50GB' is in B, expected s"),
    (serve(tpot="-5ms"), 2, r"--tpot: expected more than zero s, got -5ms"),
    (serve(dtype="f9"), 2, r"--dtype 'f9': choose one of bf16"),
    (serve(tp="3"), 2, r"64 heads are not divisible by tp 3: use 2 or 4"),
    (serve(tp="16"), 2, r"tp 16 is beyond the 8 GPUs of a node"),
    (serve(tp="-1"), 2, r"--tp has to be at least 1, or 0 to search, got -1"),
    (serve("gpt2", prompt="1000"), 2, r"context 1256 is beyond the 1024 learned positions of gpt2"),
    (serve(tp="1"), 1, r"breaks memory: 138 GB of weights, .* 66\.2 GB more than 80 GB; --tp 2 has room"),
    (
        serve(tp="2", tpot="20ms"), 1,
        r"breaks tpot: one reading of the weights \(20\.59 ms at the full bandwidth\) takes 25\.74 ms, "
        r"5\.738 ms more than 20 ms",
    ),
    (serve(tpot="5ms"), 1, r"any tp up to 8 breaks tpot: .* takes 6\.435 ms, 1\.435 ms more than 5 ms"),
    (serve(tpot="7ms"), 1, r"breaks tpot: a step of a single sequence takes .* more than 7 ms"),
    (serve(ttft="10ms"), 1, r"breaks ttft: prefill of 512 tokens takes .* more than 10 ms"),
    ((*serve(), "--fail-if", "gpus > 3"), 1, r"--fail-if 'gpus > 3' holds"),
    (("network", "--size", "1", "--ranks", "8", "--gpu", "A100"), 2, r"--size: '1': the unit is missing"),
    (("network", "--size", "1gb", "--ranks", "8", "--gpu", "A100"), 2, r"--size: '1gb': write GB for bytes"),
    (("network", "--size", "1GB", "--ranks", "0", "--gpu", "A100"), 2, r"--ranks has to be at least 1"),
    (("network", "--size", "1GB", "--ranks", "8", "--gpu", "A1"), 2, r"unknown device 'A1'"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "said"), WRONG, ids=[w[2][:40] for w in WRONG])
def test_what_cannot_be_is_one_line_with_its_exit_code(arguments, code, said):
    done = run(*arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.search(said, done.stderr), done.stderr
