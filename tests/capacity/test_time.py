"""Times of operations, steps and runs: closed forms, and published steps that no constant was taken from."""

from __future__ import annotations

import pytest

from mlsys_lab._core.hardware import device
from mlsys_lab.capacity import Interval, Parallel, Workload
from mlsys_lab.capacity.op_time import STREAMING, all_reduce_s, gemm_efficiency, gemm_s
from mlsys_lab.capacity.step_time import step_time
from mlsys_lab.capacity.train_run import training_run
from mlsys_lab.capacity.zoo import language_model
from tests.capacity.specs import gpt

A100 = device("A100")


@pytest.mark.parametrize(("pp", "interleave", "micro"), [(4, 1, 8), (8, 3, 64), (2, 6, 2)])
def test_the_bubble_is_the_pipelines_fill_and_drain(pp, interleave, micro):
    spec, layout = gpt(48, 1024, 16, 51200, 2048), Parallel(pp=pp, interleave=interleave)
    found = step_time(spec, Workload(2048, 1, micro), layout, A100)
    waiting = (pp - 1) / interleave  # micro-batches' worth, arXiv 2104.04473, section 2.2
    assert found.bubble == pytest.approx(waiting / (micro + waiting))
    long = step_time(spec, Workload(2048, 1, 100 * micro), layout, A100)
    assert found.time_s.mid * 100 / long.time_s.mid == pytest.approx(
        (1 + waiting / micro) / (1 + waiting / micro / 100)
    )


def test_a_ring_all_reduce_moves_each_byte_twice_but_for_ones_own_share():
    assert all_reduce_s(8e9, 4, 1e9).mid == pytest.approx(2 * 3 / 4 * 8)
    assert all_reduce_s(8e9, 1, 1e9).mid == 0


def test_sequence_parallelism_saves_memory_traffic_and_no_collective_bytes():
    spec, work = gpt(24, 6144, 64, 51200, 2048), Workload(2048, 4, 4, attention="materialised", dropout=True)
    plain, sp = (step_time(spec, work, Parallel(tp=8, sp=on), A100).parts for on in (False, True))
    assert sp["tensor parallel"] == plain["tensor parallel"]
    assert sp["memory"].mid < plain["memory"].mid
    again = step_time(spec, work, Parallel(tp=8, recompute="full"), A100).parts
    assert again["tensor parallel"].mid == pytest.approx(1.5 * plain["tensor parallel"].mid)


def test_the_parts_of_a_step_add_up_and_its_utilisation_follows():
    spec = language_model("llama-2-7b")
    found = step_time(spec, Workload(4096, 1, 64), Parallel(dp=4, tp=2), A100)
    assert found.time_s.mid == pytest.approx(sum(p.mid for p in found.parts.values()))
    flops = 6 * (spec.parameters - spec.parts["embedding"] - spec.parts["norm"]) * 64 * 4096
    flops += 12 * spec.layers * spec.hidden * 4096 * 64 * 4096
    assert found.mfu.mid == pytest.approx(flops / (8 * 312e12 * found.time_s.mid))
    assert found.mfu.low < found.mfu.mid < found.mfu.high


@pytest.mark.parametrize(
    ("shape", "layout", "batch", "micro", "seconds"),
    [
        ((6144, 64, 48), Parallel(tp=8, recompute="full"), 4, 4, 1.42),
        ((6144, 64, 48), Parallel(tp=8, sp=True, recompute="selective"), 4, 4, 1.10),
        ((12288, 96, 96), Parallel(tp=8, pp=8, interleave=3, recompute="full"), 64, 1, 18.13),
        ((12288, 96, 96), Parallel(tp=8, pp=8, interleave=3, sp=True, recompute="selective"), 64, 1, 13.75),
        ((20480, 128, 105), Parallel(tp=8, pp=35, interleave=3, recompute="full"), 280, 1, 49.05),
        (
            (20480, 128, 105),
            Parallel(tp=8, pp=35, interleave=3, sp=True, recompute="selective"),
            280,
            1,
            37.83,
        ),
        ((25600, 160, 128), Parallel(tp=8, pp=64, recompute="full"), 512, 1, 94.42),
        ((25600, 160, 128), Parallel(tp=8, pp=64, sp=True, recompute="selective"), 512, 1, 71.49),
    ],
)
def test_steps_of_arxiv_2205_05198_table_5_lie_in_the_interval_and_within_12_percent_of_its_middle(
    shape, layout, batch, micro, seconds
):
    h, a, L = shape
    work = Workload(2048, micro, batch, dtype="float16", attention="materialised", dropout=True)
    found = step_time(gpt(L, h, a, 51200, 2048), work, layout, A100).time_s
    assert found.contains(seconds)
    assert found.mid == pytest.approx(seconds, rel=0.12)
    assert found.high / found.low < 1.5
    assert found.basis == "assumed"


@pytest.mark.parametrize("micro", [1, 4])
def test_stage_3_of_zero_sends_half_as_much_again_and_gathers_for_every_micro_batch(micro):
    """arXiv 1910.02054, section 7: twice the weights in stages 0 to 2, three times in stage 3; of one token
    there are no products to hide it."""
    m, work = gpt(12, 768, 12, 50_257, 1024), Workload(1, batch=64 * micro)
    sent = {z: step_time(m, work, Parallel(dp=64, zero=z), A100).parts["data parallel"].mid for z in range(4)}
    assert sent[0] == sent[1]
    assert sent[2] == pytest.approx(sent[0] * (1 + (micro - 1) / 2), rel=0.01)
    assert sent[3] == pytest.approx(sent[0] * (micro / 2 + micro), rel=0.01)


def test_a_product_takes_at_least_the_roofline_and_at_most_the_sum_of_its_two_sides():
    on = device("H100")
    found = gemm_s(256, 4096, 22016, on)
    products = 2 * 256 * 4096 * 22016 / on.half_peak()
    traffic = 2 * (256 * 4096 + 4096 * 22016 + 256 * 22016) / on.memory_bytes_per_s
    best = gemm_efficiency(on)
    assert found.low == pytest.approx(max(products / best.high, traffic / STREAMING.high))
    assert found.high == pytest.approx(products / best.low + traffic / STREAMING.low)


def test_a_run_of_a_mixture_counts_the_parameters_that_a_token_passes_through():
    spec, on = language_model("deepseek-v3"), device("H800")
    found = training_run(spec, 14.8e12, on, 2048, mfu=0.4)
    assert found.flops == 6 * spec.active_parameters * 14.8e12
    assert found.gpu_hours.is_exact
    assert found.gpu_hours.mid == pytest.approx(found.flops / (0.4 * on.half_peak() * 3600))
    assert found.time_s.mid == pytest.approx(found.gpu_hours.mid * 3600 / 2048)
    assert found.cost_usd is None


def test_the_rent_of_a_run_is_as_wide_as_its_hours_and_prices_together():
    found = training_run(language_model("llama-2-7b"), 2e12, A100, 1024)
    hours = found.gpu_hours
    assert found.cost_usd.low == pytest.approx(0.80 * hours.low)
    assert found.cost_usd.high == pytest.approx(3.00 * hours.high)
    assert found.to_json()["time_s"]["basis"] == "calibrated"
    priced = training_run(language_model("llama-2-7b"), 2e12, A100, 1024, usd_per_hour=2.0)
    assert priced.cost_usd.mid == pytest.approx(2 * hours.mid)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (((1e12, 0), {}), "at least 1 GPU"),
        (((0, 8), {}), "more than zero"),
        (((1e12, 8), {"mfu": 1.4}), "at most at 1"),
    ],
)
def test_a_run_that_cannot_be_is_refused(arguments, says):
    (tokens, gpus), options = arguments
    with pytest.raises(ValueError, match=says):
        training_run(language_model("gpt2"), tokens, A100, gpus, **options)


def test_an_interval_of_prices_is_measured_and_names_its_source():
    assert "May 2026" in device("H200").price_source
    assert Interval(2.5, device("H200").usd_per_hour_mid, 7.0, "measured").contains(4.18)
