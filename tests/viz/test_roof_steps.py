"""The roofline's steps: times against the makers' figures by hand, dots on the roof, wrong input in words."""

from __future__ import annotations

import re
from math import log2

import pytest

from mlsys_lab import viz
from mlsys_lab.viz.roof_steps import FROM, LEFT, TO, WIDE

H100 = 3.35e12, 989.4e12  # byte/s and FLOP/s in bf16 without sparsity: NVIDIA's datasheet
HIDDEN, FFN, HEADS, HEAD = 4096, 11008, 32, 128  # Llama 2 7B


@pytest.fixture(scope="module")
def stepper():
    return viz.roof_steps()


@pytest.mark.parametrize(
    ("name", "flops", "moved"),
    [
        ("sum of two vectors", HIDDEN * FFN, 6 * HIDDEN * FFN),
        ("MLP, 1 token", 2 * HIDDEN * FFN, 2 * (HIDDEN * FFN + HIDDEN + FFN)),
        ("MLP, 512 tokens", 2 * 512 * HIDDEN * FFN, 2 * (HIDDEN * FFN + 512 * (HIDDEN + FFN))),
        ("int8 weights, 64", 2 * 64 * HIDDEN * FFN, HIDDEN * FFN + 2 * 64 * (HIDDEN + FFN)),
        ("attention, decode", 4 * 2048 * HEADS * HEAD, 4 * 2048 * HEADS * HEAD),
        ("attention, prefill", 2 * 2048**2 * HEADS * HEAD, 8 * 2048 * HEADS * HEAD),
    ],
)
def test_an_operation_takes_the_longer_of_its_two_times_and_lies_on_the_roof(stepper, name, flops, moved):
    (number,) = (i for i, told in enumerate(stepper.transcript) if f"{name}:" in told)
    shapes = stepper.states[number]
    slow, fast = moved / H100[0], flops / H100[1]
    longest = max(slow, fast)
    assert shapes["bytes"].level == pytest.approx(slow / longest)
    assert shapes["flops"].level == pytest.approx(fast / longest)
    said = next(s for s in shapes.values() if f"{name}:" in " ".join(s.lines))
    assert float(re.search(r": ([\d.]+) TFLOP/s", said.lines[0])[1]) == pytest.approx(
        flops / longest / 1e12, rel=5e-3
    )
    assert said.tone == ("memory" if slow > fast else "compute")
    dot = next(s for k, s in shapes.items() if k.startswith("dot") and s.tone in ("memory", "compute"))
    across = LEFT + WIDE * (log2(flops / moved) - FROM) / (TO - FROM)
    assert dot.x + dot.w / 2 == pytest.approx(across, abs=20)  # two operations may share a dot


def test_the_last_step_counts_those_that_wait_for_memory(stepper):
    waiting = sum("memory decides" in told for told in stepper.transcript)
    assert stepper.transcript[-1].startswith(f"{waiting} of these 9 operations of llama-2-7b wait for memory")


def test_a_model_with_shared_keys_already_is_not_asked_to_share_them():
    stepper = viz.roof_steps("A100", others=[], model="llama-3-8b", batches=[1, 4], context=8192)
    told = " ".join(stepper.transcript)
    # 32 heads of 128 in queries and result, 8 in keys and values, two bytes each; half of all pairs
    prefill = 2 * 8192**2 * 4096 / (2 * 8192 * (2 * 4096 + 2 * 1024))
    assert f"{prefill:,.0f} FLOP/byte" in told
    assert "a key for 8 heads" not in told
    assert "attention, decode" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"gpu": "H1000"}, r"unknown device 'H1000'; the nearest are H100"),
        ({"model": "lama-2-7b"}, r"unknown model 'lama-2-7b'; the nearest are llama-2-7b"),
        ({"batches": [0, 8]}, r"batches and a context of at least 1, got \[0, 8\]"),
        ({"batches": []}, r"batches and a context of at least 1, got \[\]"),
        ({"context": 0}, r"batches and a context of at least 1, got \[1, 8, 64, 512\] and 0"),
    ],
)
def test_wrong_input_is_a_value_error_that_names_it(arguments, said):
    with pytest.raises(ValueError, match=said):
        viz.roof_steps(**arguments)
