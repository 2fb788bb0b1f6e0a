"""`mlsys-lab estimate`: the numbers, their keys, exit codes, and wrong input in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlsys_lab.capacity import Interval
from mlsys_lab.capacity.answers import Answer

ROOT = Path(__file__).resolve().parents[2]
GPT2 = 12 * 12 * 768**2 + 50_257 * 768  # weights of its products, the output's among them
MAIN = "import sys; sys.argv[0] = 'mlsys-lab'; from mlsys_lab.cli import main; main()"


def run(*arguments, cwd=ROOT):
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", MAIN, "estimate", *arguments],
        cwd=cwd, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        (("params", "gpt2"), "parameters", 124_439_808),
        (("params", "mixtral-8x7b"), "active_parameters", 12_879_925_248),
        (("kv", "llama-2-7b", "--context", "4096", "--batch", "2", "--dtype", "fp8"), "bytes", 2 << 30),
        (("flops", "gpt2", "--context", "1024"), "flops", 2 * GPT2 * 1024 + 12 * 4 * 1024**2 * 768),
    ],
)
def test_json_has_the_number_under_its_key(arguments, key, value):
    """OpenAI's GPT-2, Mistral's Mixtral, 2 x 32 x 32 x 128 a token, two FLOPs per weight and token."""
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)[key]
    assert found == value


def test_an_explained_answer_in_json_is_json_with_its_derivation():
    done = run("kv", "gpt2", "--json", "--explain")
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)["derivation"][0]
    assert "2 x 12 layers x 12 heads x 64 x 2 bytes = 36,864" in first


def test_a_plan_that_does_not_fit_says_by_how_much_and_what_helps():
    done = run("memory", "llama-2-7b", "--gpu", "A100", "--context", "4096", "--dp", "8")
    assert done.returncode == 1
    assert (
        "it does not fit: 35.34 GB more than A100 has. Enough by itself, the cheapest first: --zero 1"
        in done.stderr
    )
    assert (
        run(
            "memory", "llama-2-7b", "--gpu", "A100", "--context", "4096", "--dp", "8", "--zero", "1"
        ).returncode
        == 0
    )


def test_memory_is_derived_with_formula_numbers_and_source():
    """Llama 2 7B by hand: 16 bytes a parameter, the optimiser's 12 over 8 replicas."""
    arguments = ("memory", "llama-2-7b", "--context", "4096", "--dp", "8", "--zero", "1", "--explain")
    told = " ".join(run(*arguments).stdout.split())
    assert "6,738,415,616 x 2 bytes = 13,476,831,232" in told
    assert "6,738,415,616 x 12 bytes / 8 = 10,107,623,424" in told
    assert "arXiv 1910.02054" in told
    assert "4,096 tokens x (8,192 input of norm 1 + 4 statistics of norm 1" in told
    assert "32 layers at once" in told


def test_a_run_is_an_interval_with_its_basis_and_its_derivation():
    done = run("train", "llama-2-7b", "--gpu", "A100", "--gpus", "256", "--tokens", "2T", "--json")
    found = json.loads(done.stdout)
    assert found["gpus"] == 256
    hours = found["gpu_hours"]
    assert hours["low"] < hours["mid"] < hours["high"]
    assert hours["basis"] == "assumed"
    assert found["published_time_s"]["basis"] == "calibrated"
    assert found["time_s"]["mid"] == pytest.approx(hours["mid"] * 3600 / 256)
    steps = 2e12 / (256 * 2048)  # a micro-batch a replica
    assert found["time_s"]["mid"] == pytest.approx(steps * found["step_s"]["mid"])
    explained = run("train", "llama-2-7b", "--gpu", "A100", "--gpus", "256", "--tokens", "2T", "--explain")
    assert "6 x 6,738,415,616 x 2e+12" in explained.stdout
    assert explained.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "helps"),
    [(("--gpus", "1"), "--optimizer adamw8bit"), (("--gpus", "1", "--micro-batch", "4"), "--tp 2")],
)
def test_a_run_that_does_not_fit_says_by_how_much_and_what_helps(arguments, helps):
    done = run("train", "llama-2-7b", "--gpu", "A100", "--tokens", "1B", *arguments)
    assert done.returncode == 1
    assert "it does not fit: " in done.stderr
    assert helps in done.stderr


@pytest.mark.parametrize(("condition", "code"), [("parameters > 100000000", 1), ("parameters > 1e12", 0)])
def test_fail_if_decides_the_exit_code(condition, code):
    assert run("params", "gpt2", "--fail-if", condition).returncode == code


def test_of_an_interval_its_middle_is_compared():
    answer = Answer({"time_s": Interval(50.0, 100.0, 200.0, "assumed"), "peak_bytes": 85e9})
    assert answer.fails("time_s > 1.5min")
    assert not answer.fails("time_s > 2min")
    assert answer.fails("peak_bytes > 80GB")
    assert not answer.fails("peak_bytes > 80GiB")


def test_limits_that_no_small_device_meets_exit_with_1_and_name_the_one_to_blame():
    done = run("edge", "--accuracy", "95%", "--latency", "20ms", "--power", "5W", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["feasible"], found["choice"], found["binding"]) == (0, "", "accuracy")
    assert "Binding: accuracy by 22 points, to 73 % (mobilenet_v3_large int8 on Edge TPU)" in done.stderr
    pair = run("edge", "--accuracy", "83%", "--latency", "5ms", "--power", "1W")
    assert pair.returncode == 1
    assert "latency by 19.58 ms" in pair.stderr
    assert " and power by 24 W" in pair.stderr


def test_limits_that_can_be_met_choose_the_cheapest_with_its_interval():
    done = run("edge", "--accuracy", "70%", "--latency", "20ms", "--power", "5W", "--json", "--explain")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["choice"] == "mobilenet_v3_large int8 on Edge TPU"  # as dear as mobilenet_v2, and better
    assert found["latency_s"]["low"] < found["latency_s"]["mid"] < found["latency_s"]["high"]
    assert found["choice"] in found["pareto"]
    assert found["pareto"]["resnet50 int8 on Edge TPU"]["accuracy"] == pytest.approx(0.7592)
    assert any("2 of 88 keep" in step for step in found["derivation"])
    arguments = ("edge", "--accuracy", "70%", "--power", "5W", "--fail-if", "latency_s > 1ms")
    assert run(*arguments).returncode == 1


def config(text):
    def write(folder):
        (folder / "config.json").write_text(text)
        return ("params", "config.json")

    return write


def asked(*arguments):
    return lambda folder: arguments


WRONG = [
    (asked("params", "lama-2-7b"), r"unknown model 'lama-2-7b'; the nearest are llama-2-7b"),
    (
        asked("train", "gpt2", "--gpu", "H1000", "--tokens", "3B"),
        r"unknown device 'H1000'; the nearest are H100",
    ),
    (config("{"), r"config.json"),
    (config('{"a": 1}'), r"config.json|model_type"),
    (config('{"model_type": "llama", "wings": 2}'), r"wings"),
    (asked("memory", "gpt2", "--tp", "5"), r"12 heads are not divisible by tp 5: use 4 or 6"),
    (asked("memory", "gpt2", "--tp", "24"), r"tp 24 is larger than the 12 heads"),
    (asked("memory", "gpt2", "--pp", "5"), r"12 layers are not divisible by pp 5: use 4 or 6"),
    (
        asked("train", "gpt2", "--gpu", "A100", "--tokens", "3B", "--gpus", "3", "--tp", "2"),
        r"3 GPUs are not divisible",
    ),
    (asked("train", "gpt2", "--gpu", "A100", "--tokens", "3B", "--tp", "0"), r"tp .*at least 1"),
    (asked("train", "gpt2", "--gpu", "A100", "--tokens", "0"), r"--tokens has to be at least 1, got 0"),
    (
        asked("train", "gpt2", "--gpu", "A100", "--tokens", "300"),
        r"300 tokens are less than one step.* 1,024",
    ),
    (asked("train", "gpt2", "--gpu", "A100", "--tokens", "3B", "--micro-batch", "0"), r"--micro-batch has"),
    (
        asked("train", "gpt2", "--gpu", "A100", "--tokens", "3B", "--gpus", "4", "--batch", "6"),
        r"batch 6 .*4|6.*not divisible",
    ),
    (asked("train", "gpt2", "--gpu", "A100", "--tokens", "3B", "--pp", "-1"), r"pp .*at least 1"),
    (asked("wings"), r"wings.*mlsys-lab estimate --help"),
    (asked("kv", "gpt2", "--context", "-1"), r"--context has to be at least 1, got -1"),
    (asked("kv", "gpt2", "--batch", "0"), r"--batch has to be at least 1, got 0"),
    (asked("kv", "gpt2", "--dtype", "f9"), r"--dtype 'f9': choose one of bf16"),
    (asked("train", "gpt2", "--gpu", "A100", "--tokens", "3GB"), r"'3GB'"),
    (
        asked("memory", "gpt2", "--fail-if", "peak_bytes > 80gb"),
        r"'80gb': write GB for bytes or Gbit for bits",
    ),
    (asked("params", "gpt2", "--fail-if", "size > 1"), r"here KEY is one of parameters, active_parameters"),
    (
        asked("memory", "gpt2", "--recompute", "some"),
        r"recompute is one of none, selective, full, got 'some'",
    ),
    (
        asked("memory", "gpt2", "--context", "4096"),
        r"context 4096 is beyond the 1024 learned positions of gpt2",
    ),
]


def csv(text, *arguments):
    def write(folder):
        (folder / "mine.csv").write_text(text)
        return ("edge", "--candidates", "mine.csv", *arguments)

    return write


TOP = "name,accuracy,latency,power,cost\n"
WRONG += [
    (asked("edge", "--accuracy", "95"), r"--accuracy: '95': .*is the % missing"),
    (asked("edge", "--accuracy", "0%"), r"--accuracy: '0%': an accuracy lies above 0"),
    (asked("edge", "--latency", "20"), r"--latency: '20': the unit is missing, write for example 20ms"),
    (asked("edge", "--power", "5V"), r"--power: '5V': unknown unit 'V'"),
    (asked("edge", "--power", "20ms"), r"--power: .*20ms"),
    (asked("edge", "--latency", "-5ms"), r"--latency: .*more than zero"),
    (
        asked("edge", "--device", "Jetson Nanno"),
        r"unknown device 'Jetson Nanno'; the nearest are .*Jetson Nano",
    ),
    (asked("edge", "--device", "Inferentia2"), r"Inferentia2: its watts are not published"),
    (asked("edge", "--device", "T4", "--cost", "60USD"), r"--cost: no price is written down"),
    (asked("edge", "--candidates", "none.csv"), r"--candidates none.csv cannot be read: No such file"),
    (csv("name,accuracy\na,90%\n"), r"latency, power, cost is missing"),
    (csv(TOP), r"every row is missing"),
    (csv(TOP + "a,90,1ms,1W,1USD\n"), r"line 2, accuracy: '90': .*is the % missing"),
    (csv(TOP + "a,90%,1,1W,1USD\n"), r"line 2, latency: '1': the unit is missing"),
    (csv(TOP + "a,90%\n"), r"line 2, latency: "),
    (csv(TOP + ",90%,1ms,1W,1USD\n"), r"line 2: the name is missing"),
    (csv(TOP + "a,90%,1ms,1W,1USD\n", "--device", "T4"), r"leave it or --candidates out"),
    (asked("edge", "--fail-if", "speed > 3"), r"here KEY is one of candidates, feasible"),
]


@pytest.mark.parametrize(("write", "said"), WRONG, ids=lambda v: v if isinstance(v, str) else "")
def test_wrong_input_is_one_line_and_exit_code_2(write, said, tmp_path):
    import re

    done = run(*write(tmp_path), cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.search(said, done.stderr)
    assert "Traceback" not in done.stderr


def test_more_tokens_than_a_model_was_made_for_are_noted():
    done = run("kv", "llama-2-7b", "--context", "100000")
    assert done.returncode == 0
    assert done.stderr == "note: 100,000 tokens are beyond the 4,096 that llama-2-7b was made for\n"
    assert run("kv", "llama-2-7b", "--context", "4096").stderr == ""


def test_help_lists_the_questions():
    done = run("--help")
    assert done.returncode == 0
    assert all(
        word in done.stdout
        for word in (
            "params",
            "kv",
            "flops",
            "memory",
            "train",
            "serve",
            "network",
            "edge",
            "plan",
            "roofline",
        )
    )
    assert "Example:" in done.stdout
