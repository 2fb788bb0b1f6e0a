"""Plans from YAML: what `train` and `serve` say of them, alone and side by side; wrong plans in one line."""

from __future__ import annotations

import json
import re

import pytest

from mlsys_lab._core.hardware import device
from mlsys_lab.capacity import (
    Load,
    ModelSpec,
    Parallel,
    Workload,
    fewest_gpus,
    language_model,
    step_time,
    training_memory,
)
from mlsys_lab.capacity.plan_file import as_plan, read_plans
from mlsys_lab.capacity.plans import answer, refusal, side_by_side
from mlsys_lab.capacity.train_run import training_run
from tests.capacity.plans import GPT3, SERVE, SPLIT, write
from tests.capacity.specs import LLAMA

YAML = """
model: gpt3-175b
gpu: A100
gpus: 1024
tokens: 300B
global_batch: 1536
parallel:
  tp: 8
  pp: 8
  zero: 1
"""


def test_a_plan_says_what_train_says_and_the_time_of_its_own_steps(estimate, tmp_path):
    plan = write(tmp_path, YAML.replace("global_batch", "batch"))
    code, out, err = estimate("plan", plan, "--json")
    assert code == 0, err
    found = json.loads(out)
    asked = ("--gpu", "A100", "--gpus", 1024, "--tokens", "300B", "--tp", 8, "--pp", 8, "--batch", 1536)
    assert json.loads(estimate("train", "gpt3-175b", *asked, "--json")[1]) == found
    m, p, w = language_model("gpt3-175b"), Parallel(dp=16, tp=8, pp=8, zero=1), Workload(2048, batch=1536)
    assert found["peak_bytes"] == training_memory(m, w, p).peak_bytes
    step = step_time(m, w, p, device("A100")).time_s
    steps = 300e9 / (1536 * 2048)
    for end in ("low", "mid", "high"):
        assert found["step_s"][end] == pytest.approx(getattr(step, end))
        assert found["time_s"][end] == pytest.approx(steps * getattr(step, end))
        assert found["gpu_hours"][end] == pytest.approx(steps * getattr(step, end) * 1024 / 3600)
    assert found["cost_usd"]["low"] == pytest.approx(0.80 * found["gpu_hours"]["low"])
    assert found["energy_kwh"]["mid"] == pytest.approx(0.4 * found["gpu_hours"]["mid"])
    published = training_run(m, 300e9, device("A100"), 1024).time_s
    assert found["published_time_s"]["mid"] == pytest.approx(published.mid)


def test_a_plan_that_serves_has_the_keys_and_numbers_of_serve(estimate, tmp_path):
    plan = write(tmp_path, {"model": "llama-2-70b", "gpu": "H100", "serve": SERVE})
    found = json.loads(estimate("plan", plan, "--json")[1])
    asked = [str(x) for key, value in SERVE.items() for x in (f"--{key}", value)]
    served = json.loads(estimate("serve", "llama-2-70b", "--gpu", "H100", *asked, "--json")[1])
    assert {key: found[key] for key in served} == served
    best = fewest_gpus(language_model("llama-2-70b"), device("H100"), Load(5, 512, 256, 0.5, 0.05))
    assert found["usd_per_hour"]["mid"] == pytest.approx(best.gpus * device("H100").usd_per_hour_mid)


def test_plans_stand_side_by_side_from_one_file_or_several(estimate, tmp_path):
    one, two = GPT3 | {"parallel": SPLIT}, {"model": "llama-2-70b", "gpu": "H100", "serve": SERVE}
    large = GPT3 | {"parallel": {"tp": 8, "pp": 1}}
    together = write(tmp_path, {"plans": {"one": one, "large": large, "two": two}}, "all.yaml")
    code, out, _ = estimate("plan", together)
    assert code == 0, "some fit"
    table = {row[0]: row[1:] for row in (re.split(r"\s{2,}", line) for line in out.splitlines()) if row}
    assert table[""] == ["one", "large", "two"]
    assert table["GPUs"] == ["1,024 A100", "1,024 A100", "4 H100"]
    assert table["fits"] == ["yes", "no, 36.28 GB over", "yes"]
    assert re.fullmatch(r"23\.3 days \(19\.7 days to 27\.8 days\)", table["time"][0])
    assert table["cost"][2] == table["energy"][2] == "-"
    assert "measured: cost per hour" in out
    apart = [write(tmp_path, plan, f"{name}.yaml") for name, plan in (("one", one), ("two", two))]
    found = json.loads(estimate("plan", *apart, "--json", "--explain")[1])["plans"]
    assert list(found) == ["one", "two"]
    assert found["one"]["peak_bytes"] == answer(as_plan(one)).values["peak_bytes"]
    assert any("95,367 steps" in step for step in found["one"]["derivation"])


def test_fail_if_asks_every_plan(estimate, tmp_path):
    plans = {"small": GPT3 | {"parallel": SPLIT}, "large": GPT3 | {"parallel": {"tp": 8, "pp": 4}}}
    path = write(tmp_path, {"plans": plans})
    code, _, err = estimate("plan", path, "--fail-if", "peak_bytes > 45GB")
    assert code == 1
    assert "large: --fail-if 'peak_bytes > 45GB' holds" in err
    assert estimate("plan", path, "--fail-if", "peak_bytes > 450GB")[0] == 0


def test_a_models_config_is_looked_for_beside_the_plan(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    found = read_plans(write(tmp_path, {"model": "mine.json", "gpu": "A100"}))[0]
    assert found.model.parameters == ModelSpec.from_hf(LLAMA).parameters


def test_a_remedy_makes_the_plan_fit_on_as_many_gpus_and_they_come_in_order_of_cost():
    large = GPT3 | {"parallel": {"tp": 8, "pp": 1, "zero": 1}}
    said = refusal(as_plan(large), answer(as_plan(large)))
    assert "does not fit: 36.28 GB more than A100 has" in said
    helps = re.search(r"the cheapest first: (.*)", said)[1].split(", ")
    costs = []
    for remedy in helps:
        key, value = remedy.split(": ")
        value = int(value) if value.isdigit() else value
        changed = {"parallel": large["parallel"] | {key: value}} if key != "optimizer" else {key: value}
        found = answer(as_plan(large | changed)).values
        assert found["fits"], remedy
        assert found["gpus"] == 1024
        costs.append(found["cost_usd"].mid)
    assert len(helps) > 3
    assert costs == sorted(costs)


def test_a_table_has_a_row_for_every_quantity_of_any_plan():
    found = {"a": answer(as_plan(GPT3 | {"parallel": SPLIT}))}
    assert [line.split("  ")[0] for line in side_by_side(found)[:4]] == ["", "GPUs", "layout", "fits"]


# ---- wrong input

WRONG = [
    ("model: [", 2, r"plan\.yaml is not YAML: .*line 1"),
    ("\x00", 2, r"plan\.yaml is not YAML: "),
    ("", 2, r"plan\.yaml holds no plan but nothing: write for example 'model: llama-2-7b'"),
    ("- gpt2", 2, r"plan\.yaml holds no plan but a list"),
    ("just words", 2, r"plan\.yaml holds no plan but a str"),
    ("model: gpt2\nmodel: gpt2", 2, r"plan\.yaml: 'model' is written twice, at line 1"),
    ({"gpu": "A100"}, 2, r"plan\.yaml has no model: add for example 'model: llama-2-7b'"),
    ({"model": "gpt2"}, 2, r"plan\.yaml has no gpu: add for example 'gpu: A100'"),
    ({"plans": {"a": {"gpu": "A100"}}}, 2, r"plan\.yaml: plan a has no model"),
    ({"plans": {"a": 3}}, 2, r"plan\.yaml: plan a: a plan is a mapping such as .*, got 3"),
    ({"plans": []}, 2, r"plans: wants a mapping of names to plans"),
    ({"plans": {"a": GPT3}, "model": "gpt2"}, 2, r"beside plans: has no key 'model'"),
    (GPT3 | {"paralel": {}}, 2, r"a plan has no key 'paralel'; the nearest is parallel"),
    (GPT3 | {"parallel": {"tensor": 8}}, 2, r"parallel: has no key 'tensor'; "),
    (GPT3 | {"parallel": {"zer": 1}}, 2, r"parallel: has no key 'zer'; the nearest is zero"),
    (GPT3 | {"parallel": 8}, 2, r"parallel: wants a mapping such as 'tp: 8', got 8"),
    (GPT3 | {"parallel": {"tp": "8"}}, 2, r"plan\.yaml: tp has to be a whole number, got '8'"),
    (GPT3 | {"parallel": {"sp": 1}}, 2, r"sp has to be true or false, got 1"),
    (GPT3 | {"parallel": {"tp": 5}}, 2, r"gpus 1024 is not dp 204 x tp 5 x pp 1 x cp 1 = 1020"),
    (GPT3 | {"gpus": 960, "parallel": {"tp": 5}}, 2, r"96 heads are not divisible by tp 5: use 4 or 6"),
    (GPT3 | {"parallel": {"dp": 4, "tp": 8}}, 2, r"is not dp 4 x tp 8 .*= 32: leave dp out, or use 32"),
    (GPT3 | {"parallel": {"zero": 4}}, 2, r"zero is 0, 1, 2 or 3, got 4"),
    (GPT3 | {"parallel": {"recompute": "some"}}, 2, r"recompute is one of none, selective, full"),
    (GPT3 | {"parallel": {"tp": [4, 8]}}, 2, r"tp is a list, which wants a search: add 'search: cost'"),
    (GPT3 | {"search": "cost", "parallel": {"sp": [True]}}, 2, r"sp cannot be a list; what can is gpu, "),
    (GPT3 | {"batch": "many"}, 2, r"batch has to be a whole number of at least 1, got 'many'"),
    (GPT3 | {"batch": -1}, 2, r"batch has to be a whole number of at least 1, got -1"),
    (GPT3 | {"batch": 1000}, 2, r"batch 1000 is not divisible by dp 1024 x micro-batch 1 = 1024: use 1024"),
    (GPT3 | {"gpus": 0}, 2, r"gpus has to be a whole number of at least 1, got 0"),
    (GPT3 | {"context": 4096, "batch": 1024}, 2, r"context 4096 is beyond the 2048 learned positions"),
    (GPT3 | {"tokens": "300GB"}, 2, r"tokens: '300GB'"),
    (GPT3 | {"tokens": -5}, 2, r"tokens: expected more than zero token"),
    (GPT3 | {"tokens": True}, 2, r"tokens has to be a number of token, got True"),
    (GPT3 | {"dtype": "fp4"}, 2, r"dtype is one of float32, bfloat16, float16, got 'fp4'"),
    (GPT3 | {"dropout": "yes"}, 2, r"dropout has to be true or false, got 'yes'"),
    (GPT3 | {"optimizer": "adm"}, 2, r"optimizer is one of .*adamw"),
    (GPT3 | {"model": "gpt9"}, 2, r"plan\.yaml: unknown model 'gpt9'; the nearest are gpt"),
    (GPT3 | {"model": "resnet50"}, 2, r"resnet50 is not a transformer"),
    (GPT3 | {"gpu": "A1000"}, 2, r"plan\.yaml: unknown device 'A1000'; the nearest are A100"),
    (GPT3 | {"deadline": "3d"}, 2, r"deadline is for a search: add 'search: cost'"),
    (GPT3 | {"budget": 5}, 2, r"budget is for a search: add 'search: time'"),
    (GPT3 | {"search": "speed"}, 2, r"search is one of cost, time, got 'speed'"),
    (GPT3 | {"search": "cost", "deadline": "3GB"}, 2, r"deadline: '3GB' is in B, expected s"),
    ({"model": "gpt2", "gpu": "A100", "search": "cost"}, 2, r"layouts that do the same work: add batch"),
    (GPT3 | {"search": "cost", "gpu": "T4"}, 2, r"no price is written down for T4: add usd_per_hour"),
    (GPT3 | {"search": "cost", "gpus": 7}, 2, r"no layout divides: 7 GPUs, 96 heads, 96 layers"),
    ({"model": "gpt2", "gpu": "H100", "serve": 5}, 2, r"serve: wants a mapping of rate, prompt"),
    ({"model": "gpt2", "gpu": "H100", "serve": {"rate": 5}}, 2, r"serve: lacks prompt, output, ttft, tpot"),
    ({"model": "gpt2", "gpu": "H100", "serve": SERVE | {"ttft": 500}}, 2, r"ttft 500: the unit is missing"),
    ({"model": "gpt2", "gpu": "H100", "serve": SERVE | {"rate": 0}}, 2, r"rate: expected more than zero"),
    ({"model": "gpt2", "gpu": "H100", "serve": SERVE, "tokens": 5}, 2, r"that serves has no key 'tokens'"),
    ({"model": "gpt2", "gpu": "H100", "serve": SERVE | {"dtype": "f9"}}, 2, r"dtype is one of float32"),
    ({"model": "bert", "gpu": "H100", "serve": SERVE}, 2, r"bert-base-uncased does not generate"),
    (
        {"model": "llama-2-70b", "gpu": "H100", "serve": SERVE | {"tp": 1}}, 1,
        r"breaks memory: 138 GB of weights, .* 66\.2 GB more than 80 GB",
    ),
    (
        GPT3 | {"parallel": {"tp": 8}}, 1,
        r"plan does not fit: 36\.28 GB more than A100 has\. Enough by itself, the cheapest first: ",
    ),
    ({"model": "gpt3-175b", "gpu": "T4"}, 1, r"None of the usual remedies is enough by itself: combine them"),
]  # fmt: skip


@pytest.mark.parametrize(("plan", "code", "said"), WRONG, ids=[w[2][:40] for w in WRONG])
def test_what_is_wrong_with_a_plan_is_one_line_with_its_exit_code(estimate, plan, code, said, tmp_path):
    ended, out, err = estimate("plan", write(tmp_path, plan))
    assert ended == code, out + err
    assert len(err.strip().splitlines()) == 1, err
    assert re.search(said, err), err


def test_a_file_that_is_not_there_is_named(estimate):
    code, _, err = estimate("plan", "nowhere.yaml")
    assert code == 2
    assert "nowhere.yaml cannot be read: No such file or directory" in err
