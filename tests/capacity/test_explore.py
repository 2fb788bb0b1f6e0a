"""The what-if explorer: every cell is what an estimate of that layout says; wrong sliders in one line."""

from __future__ import annotations

import json
import re
from itertools import product

import pytest

from mlsys_lab._core.hardware import device
from mlsys_lab.capacity import (
    Parallel,
    Workload,
    explore,
    language_model,
    read_plans,
    step_time,
    training_memory,
)
from mlsys_lab.capacity.plan_file import as_plan
from tests.capacity.plans import GPT3, SERVE, write

SMALL = {"model": "gpt2", "gpu": "A100", "gpus": 8, "context": 256, "batch": 64, "tokens": "1B"}
FEW = {"context": [256], "dp": [2, 8], "tp": [1, 2, 5], "pp": [1, 2], "gpu": ["A100", "T4"]}


@pytest.fixture(scope="module")
def explorer():
    return explore(SMALL, **FEW)


def test_every_cell_is_the_estimate_of_its_layout(explorer):
    m, several = language_model("gpt2"), 0
    for micro, dp, zero, tp, pp, again in product(*(explorer.axes[n] for n in explorer.axes if n not in
                                                    ("context", "gpu"))):  # fmt: skip
        cell = explorer.at(micro_batch=micro, dp=dp, zero=zero, tp=tp, pp=pp, recompute=again)
        try:
            layout = Parallel(dp=dp, zero=zero, tp=tp, pp=pp, recompute=again)
            work = Workload(256, micro, 64)
            held = training_memory(m, work, layout)
        except ValueError as error:
            why = str(error)
        else:
            why = ""
        assert cell.why == why
        if why:
            continue
        several += 1
        assert cell.parts == held.parts
        assert cell.peak_bytes == held.peak_bytes
        for on, found in zip(("A100", "T4"), cell.step_s, strict=True):
            took = step_time(m, work, layout, device(on)).time_s
            assert found == (took.low, took.mid, took.high)
    assert several == 3 * 2 * 4 * 2 * 2 * 3, "all but tp 5"


def test_it_starts_at_the_plan_with_half_and_twice_of_it():
    found = explore(GPT3 | {"parallel": {"tp": 8, "pp": 8}}, micro_batch=[1], recompute=["none"])
    assert found.start == {"micro_batch": 1, "context": 2048, "dp": 16, "zero": 1, "tp": 8, "pp": 8,
                           "recompute": "none", "gpu": "A100"}  # fmt: skip
    assert found.axes["dp"] == [8, 16, 32]
    assert found.axes["context"] == [1024, 2048], "no more than its learned positions"
    assert found.axes["tp"] == [4, 8], "no more than a node"
    assert found.axes["gpu"] == ["A100", "H100", "B200"]


def test_a_plan_may_be_a_file_a_mapping_or_read_already(tmp_path):
    path, only = write(tmp_path, SMALL), {name: [] for name in ()} | {"zero": [1], "recompute": ["none"]}
    found = [explore(p, **only, **FEW).at().parts for p in (path, SMALL, read_plans(path)[0], as_plan(SMALL))]
    assert found.count(found[0]) == 4


def test_the_page_asks_nobody_and_its_data_cannot_end_the_script(explorer):
    page = explorer._repr_html_()
    assert not re.search(r"(src|href)\s*=|https?://|url\(", page)
    data = page.partition('type="application/json">')[2].partition("</script>")[0]
    assert "<" not in data
    found = json.loads(data)
    assert len(found["cells"]) == len(explorer.cells)
    assert found["why"] == ["12 heads are not divisible by tp 5: use 4 or 6"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: explore(SMALL, speed=[1]), r"no slider is called 'speed': there are micro_batch, context"),
        (lambda: explore(SMALL, tp=[]), r"tp: a slider wants at least one value"),
        (lambda: explore(SMALL, dp=range(1, 2000)), r"layouts are more than 20,000: give some sliders fewer"),
        (lambda: explore(SMALL, gpu=["A1000"]), r"unknown device 'A1000'; the nearest are A100"),
        (lambda: explore(SMALL | {"gpus": 7}), r"the plan: batch 64 is not divisible by dp 7"),
        (lambda: explore(SMALL | {"paralel": 3}), r"no key 'paralel'"),
        (lambda: explore({"model": "llama-2-70b", "gpu": "H100", "serve": SERVE}), r"one layout that trains"),
        (lambda: explore(SMALL | {"search": "cost"}), r"one layout that trains, without serve or search"),
        (lambda: explore("nowhere.yaml"), r"nowhere.yaml cannot be read"),
        (lambda: explore(SMALL, **FEW).at(tp=3), r"tp 3 is not on the grid: it has 1, 2, 5"),
        (lambda: explore(SMALL, **FEW).at(wings=3), r"no slider is called 'wings'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(call, said):
    with pytest.raises(ValueError, match=said) as refusal:
        call()
    assert "\n" not in str(refusal.value)


def test_a_file_of_several_plans_wants_one_chosen(tmp_path):
    path = write(tmp_path, {"plans": {"a": SMALL, "b": SMALL}})
    with pytest.raises(ValueError, match=r"holds 2 plans: give one, such as read_plans\("):
        explore(path)
