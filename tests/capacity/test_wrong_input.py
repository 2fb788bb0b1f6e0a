"""Wrong input ends in one line that names what is wrong and what would be right."""

from __future__ import annotations

import json

import pytest

from mlsys_lab._core.hardware import device
from mlsys_lab._core.quantity import amount
from mlsys_lab.capacity import ModelSpec, Parallel, Workload, convnet, model, operations
from mlsys_lab.capacity.costs import energy_kwh, rent
from mlsys_lab.capacity.runs import gpu_hours
from mlsys_lab.capacity.training import training_memory
from mlsys_lab.capacity.zoo import language_model
from tests.capacity.specs import LLAMA


def plan(work=None, **layout):
    work = work or Workload(2048)
    return lambda: training_memory(language_model("llama-3-8b"), work, Parallel(**layout))


def config(**changes):
    return lambda: ModelSpec.from_hf({k: v for k, v in (LLAMA | changes).items() if v is not ...})


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: model("lama-2-7b"), "unknown model 'lama-2-7b'.*llama-2-7b"),
        (lambda: convnet("resnet5"), "unknown network 'resnet5'.*resnet50"),
        (lambda: device("H10"), "unknown device 'H10'.*H100"),
        (lambda: language_model("resnet50"), "not a transformer"),
        (config(num_kv_heads=8), "'num_kv_heads'.*could change the count.*num_key_value_heads"),
        (config(model_type="lama"), "'lama' is not known.*llama"),
        (config(model_type="gemma3", text_config={"model_type": "gemma3_text"}), "give its text_config"),
        (config(model_type=...), "has no model_type"),
        (config(hidden_size=...), "lacks 'hidden_size'"),
        (config(num_attention_heads=0), "num_attention_heads.*at least 1, got 0"),
        (config(num_key_value_heads=0), "num_key_value_heads.*at least 1, got 0"),
        (config(num_hidden_layers=-2), "num_hidden_layers.*at least 1, got -2"),
        (config(hidden_size="4096"), "hidden_size.*whole number.*'4096'"),
        (config(hidden_size=True), "hidden_size.*whole number.*True"),
        (config(tie_word_embeddings="yes"), "tie_word_embeddings has to be true or false"),
        (config(num_attention_heads=25), "3072 is not divisible by num_attention_heads 25"),
        (config(num_key_value_heads=7), "24 is not divisible by kv_heads 7"),
        (config(pruned_heads={"0": [1]}), "pruned_heads"),
        (config(model_type="mistral", attention_bias=True), "attention_bias = True is not known"),
        (plan(tp=64), "tp 64 is larger than the 32 heads"),
        (plan(tp=3), "32 heads are not divisible by tp 3: use 2 or 4"),
        (plan(pp=5), "32 layers are not divisible by pp 5: use 4 or 8"),
        (plan(pp=8, interleave=3), "not divisible by pp 8 x interleave 3"),
        (
            plan(Workload(2048, 2, 10), dp=2),
            "batch 10 is not divisible by dp 2 x micro-batch 2 = 4: use 8 or 12",
        ),
        (plan(Workload(2050), tp=4, sp=True), "context 2050 is not divisible"),
        (plan(ep=2, dp=2), "llama-3-8b has no experts"),
        (plan(dp=0), "dp has to be a whole number of at least 1, got 0"),
        (plan(zero=4), "zero is 0, 1, 2 or 3"),
        (plan(recompute="some"), "recompute is one of none, selective, full"),
        (plan(sp=True), "set tp above 1"),
        (plan(interleave=2), "set pp above 1"),
        (lambda: Workload(0), "context has to be a whole number of at least 1"),
        (lambda: Workload(2048, -1), "micro_batch"),
        (lambda: Workload(2048, optimizer="adm"), "optimizer is one of .*adam"),
        (lambda: Workload(2048, dtype="fp4"), "dtype is one of"),
        (
            lambda: training_memory(language_model("gpt2"), Workload(2048), Parallel()),
            "beyond the 1024 learned positions",
        ),
        (lambda: language_model("gpt2").kv_bytes(0), "context has to be"),
        (lambda: language_model("gpt2").kv_bytes_per_token(0), "more than zero bytes"),
        (lambda: operations(language_model("gpt2"), 0, 8), "batch of at least 1"),
        (lambda: operations(language_model("gpt2"), 1), "context of at least 1"),
        (lambda: gpu_hours(7e9, 0, device("A100")), "more than zero parameters and tokens"),
        (lambda: energy_kwh(1, 400, 0.9), "PUE of at least 1"),
        (lambda: rent(device("T4")), "no price is written down for T4"),
        (lambda: amount("80gb", "B"), "80GB|GB for bytes"),
        (lambda: amount("-80GB", "B"), "more than zero"),
    ],
)
def test_wrong_input_is_refused_in_one_line(call, says):
    with pytest.raises(ValueError, match=says) as refusal:
        call()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{not json", "is not JSON: .* in line 1"),
        ("[1, 2]", "not a model's config.json: it holds a list"),
        (json.dumps({"name": "my-app", "version": "1.0"}), "not a model's config.json: it has no model_type"),
        ("\x00\xff", "is not JSON"),
        ("", "is not JSON"),
    ],
)
def test_a_file_that_is_no_models_config_is_refused(text, says, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        model(path)


def test_a_missing_file_is_refused_by_its_name(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.json cannot be read"):
        model(tmp_path / "nowhere.json")


def test_80_gb_and_80_gib_decide_differently_whether_a_plan_fits():
    needed = 82e9
    assert amount("80GB", "B") < needed < amount("80GiB", "B")
