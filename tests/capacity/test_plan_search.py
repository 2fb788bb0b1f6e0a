"""The cheapest plan that fits, held against trying everything; where there is none, what is said."""

from __future__ import annotations

import json
import re
from functools import cache
from itertools import product

import pytest

from mlsys_lab._core.hardware import device
from mlsys_lab.capacity import Parallel, Workload, language_model, step_time, training_memory
from mlsys_lab.capacity.plan_file import as_plan
from mlsys_lab.capacity.plan_found import failure, searched
from mlsys_lab.capacity.plan_search import search
from tests.capacity.plans import GPT3, SPLIT, write

SPACES = [
    {"model": "gpt2", "gpu": "T4", "gpus": 8, "tokens": "1B", "batch": 64, "usd_per_hour": 1},
    {"model": "gpt3-2.7b", "gpu": "A100-40GB", "gpus": 16, "tokens": "10B", "batch": 48, "usd_per_hour": 2},
    {"model": "llama-2-7b", "gpu": ["A100", "H100"], "gpus": [8, 16], "tokens": "2T", "batch": 32},
    {"model": "llama-2-7b", "gpu": "H100", "gpus": 32, "tokens": "2T", "batch": 96, "context": 4096,
     "parallel": {"tp": [1, 4], "zero": 1}, "micro_batch": [1, 3]},
    {"model": "mixtral-8x7b", "gpu": "H100", "gpus": 32, "tokens": "1T", "batch": 128,
     "parallel": {"recompute": "full", "ep": 4}},
    {"model": "gpt3-13b", "gpu": "V100", "gpus": 8, "tokens": "1B", "batch": 32, "usd_per_hour": 1},
]  # fmt: skip


@cache
def tried_all(i):
    return list(everything(SPACES[i]))


def everything(written):
    """All layouts, priced and measured one by one, with no bound: [(cost, time, peak share, layout)]."""
    m, given = language_model(written["model"]), written.get("parallel", {})
    many = lambda value: value if isinstance(value, list) else [value]  # noqa: E731
    context, batch = written.get("context", min(m.context or 2048, 2048)), written["batch"]
    for gpu, gpus in product(many(written["gpu"]), many(written["gpus"])):
        on = device(gpu)
        rent = written.get("usd_per_hour") or on.usd_per_hour_mid
        for tp, pp, dp, zero, again in product(
            range(1, 9), range(1, m.layers + 1), range(1, gpus + 1), range(4), ("none", "selective", "full")
        ):
            if tp * pp * dp != gpus or m.heads % tp or m.layers % pp or batch % dp:
                continue
            wanted = {"tp": tp, "pp": pp, "dp": dp, "zero": zero, "recompute": again}
            if any(wanted[k] not in many(v) for k, v in given.items() if k in wanted):
                continue
            if dp == 1 and zero and "zero" not in given:
                continue
            each = batch // dp
            powers = [1 << i for i in range(20) if each % (1 << i) == 0]
            for micro in many(written["micro_batch"]) if "micro_batch" in written else powers:
                p = {"ep": given.get("ep", 1), "sp": tp > 1 and context % tp == 0}
                try:
                    layout = Parallel(dp=dp, tp=tp, pp=pp, zero=zero, recompute=again, **p)
                    work = Workload(context, micro, batch)
                    peak = training_memory(m, work, layout).peak_bytes
                except ValueError:  # it does not divide
                    continue
                time = step_time(m, work, layout, on).time_s.mid
                tokens = {"1B": 1e9, "10B": 10e9, "2T": 2e12, "1T": 1e12}[written["tokens"]]
                time *= tokens / (batch * context)
                yield time * gpus / 3600 * rent, time, peak / on.memory_bytes, (gpu, layout, micro)


@pytest.mark.parametrize("by", ["cost", "time"])
@pytest.mark.parametrize("written", SPACES, ids=lambda w: f"{w['model']} {w['gpu']}")
def test_the_search_finds_what_trying_everything_finds(written, by):
    found = search(as_plan(written | {"search": by}))
    tried = tried_all(SPACES.index(written))
    fitting = [x for x in tried if x[2] <= 1]
    assert (found.looked_at, found.fitting) == (len(tried), len(fitting))
    if not fitting:
        assert found.best == ()
        layout, need = found.nearest
        assert need / layout.on.memory_bytes == min(x[2] for x in tried)
        return
    column = 0 if by == "cost" else 1
    best = sorted(x[column] for x in fitting)[: len(found.best)]
    ours = [x.cost if by == "cost" else x.run.time_s.mid for x in found.best]
    assert ours == pytest.approx(best)
    first = found.best[0].layout
    assert min(fitting, key=lambda x: x[column])[column] == pytest.approx(
        next(x[column] for x in fitting if x[3] == (first.on.name, first.parallel, first.work.micro_batch))
    )


@pytest.mark.parametrize("limit", ["budget", "deadline"])
def test_a_limit_keeps_what_trying_everything_keeps(limit):
    written = SPACES[2]
    tried = [x for x in tried_all(2) if x[2] <= 1]
    column = 0 if limit == "budget" else 1
    middle = sorted(x[column] for x in tried)[len(tried) // 3] * 1.000001
    by = "time" if limit == "budget" else "cost"
    found = search(as_plan(written | {"search": by, limit: f"{middle!r} {'USD' if column == 0 else 's'}"}))
    kept = [x for x in tried if x[column] <= middle]
    assert found.kept == len(kept)
    value = found.best[0].run.time_s.mid if by == "time" else found.best[0].cost
    assert value == pytest.approx(min(x[1 - column] for x in kept))


def test_gpt_3_on_1024_a100_says_what_it_looked_at_and_the_best_five(estimate, tmp_path):
    code, out, err = estimate("plan", write(tmp_path, GPT3 | {"search": "cost"}))
    assert code == 0, err
    assert "looked at 1,152 layouts: 498 fit" in out
    assert len(re.findall(r"^  \d\. 1,024 A100 ", out, re.MULTILINE)) == 5
    assert re.search(r"the second costs (as much|[\d.]+% more)$", out, re.MULTILINE)


def test_where_none_fits_the_nearest_is_told_with_what_would_help(estimate, tmp_path):
    plan = GPT3 | {"gpus": 32, "search": "cost"}
    code, out, err = estimate("plan", write(tmp_path, plan))
    assert code == 1
    assert "none of 1,392 layouts fits. The nearest, 32 A100 dp 4 tp 8 zero 3 sp recompute full" in err
    assert "needs 9.202 GB more than A100 has" in err
    assert "over_bytes" in out
    for changed in ({"optimizer": "adamw8bit"}, {"gpus": 64}, {"gpu": "H200"}):
        assert search(as_plan(plan | changed)).best
    dollars = [int(x.replace(",", "")) for x in re.findall(r"\(([\d,]+) USD\)", err)]
    assert len(dollars) == 3
    assert dollars == sorted(dollars)


def test_where_a_held_key_is_in_the_way_leaving_it_free_is_offered():
    plan = as_plan(GPT3 | {"search": "cost", "batch": 1024, "parallel": {"tp": 1, "pp": 1, "zero": 0}})
    said = failure(search(plan))
    assert "leave zero free" in said
    assert "leave pp free" not in said, "no pipeline alone makes 16 bytes a parameter fit"


def test_a_limit_that_nothing_keeps_is_told_with_the_nearest():
    plan = as_plan(SPACES[3] | {"search": "cost", "deadline": "1h"})
    said = failure(search(plan))
    assert "none keeps the deadline of 1 h. The nearest is 32 H100" in said


def test_a_searched_plan_stands_beside_others(estimate, tmp_path):
    plans = {"held": GPT3 | {"parallel": SPLIT}, "free": GPT3 | {"search": "cost"}}
    code, out, _ = estimate("plan", write(tmp_path, {"plans": plans}))
    assert code == 0
    assert "looked at 1,152 layouts" in out.partition("\nfree\n")[2]
    found = json.loads(estimate("plan", write(tmp_path, {"plans": plans}), "--json")[1])["plans"]
    assert found["free"]["cost_usd"]["mid"] <= found["held"]["cost_usd"]["mid"]
    assert found["free"]["search"]["looked_at"] == 1152
    assert searched(as_plan(plans["free"])).values["layout"] == found["free"]["search"]["best"][0]["layout"]
