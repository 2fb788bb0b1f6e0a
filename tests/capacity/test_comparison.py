"""Plans side by side in a notebook: the command's words in a table, bars as long as what they draw."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from mlsys_lab.capacity import Comparison, compare
from mlsys_lab.capacity.plan_file import as_plan
from mlsys_lab.capacity.plans import answer

PLAN = {"model": "gpt2", "gpu": "A100", "gpus": 8, "tokens": "10B", "batch": 64}
PLANS = {"<A & B>": PLAN, "H100": PLAN | {"gpu": "H100"}, "four": PLAN | {"gpus": 4}}


@pytest.fixture(scope="module")
def compared() -> Comparison:
    return compare(PLANS)


def rows(table):
    return [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]


def test_the_table_says_what_the_command_prints(compared):
    table, *_ = ElementTree.fromstring(compared._repr_html_()).iter("table")
    printed = [re.split(r"  +", line) for line in str(compared).splitlines()]
    assert [[c.strip() for c in row if c.strip()] for row in rows(table)] == [
        [c for c in line if c] for line in printed[: len(rows(table))]
    ]


def test_bars_are_in_the_ratio_of_the_plans_own_numbers(compared):
    _, memory, time, cost = ElementTree.fromstring(compared._repr_html_()).iter("table")
    known = {name: answer(as_plan(plan)).values for name, plan in PLANS.items()}
    for table, key in ((memory, "peak_bytes"), (time, "time_s"), (cost, "cost_usd")):
        wide = {}
        for row in table.iter("tr"):
            name = next(row.iter("th")).text
            bar = next(s for s in row.iter("span") if "background" in s.get("style"))
            wide[name] = float(re.search(r"width:([\d.]+)em", bar.get("style"))[1])
        middle = {name: getattr(v[key], "mid", v[key]) for name, v in known.items()}
        for name in PLANS:
            expected = middle[name] / middle["H100"]
            assert wide[name] / wide["H100"] == pytest.approx(expected, rel=2e-2)


def test_one_plan_has_a_table_and_no_bars():
    assert len(list(ElementTree.fromstring(compare({"one": PLAN})._repr_html_()).iter("table"))) == 1


@pytest.mark.parametrize(
    ("plans", "said"),
    [({}, "nothing to compare"), ({"a": {"gpu": "A100"}}, "no model"), ({"a": 3}, "a plan is a mapping")],
)
def test_wrong_input_is_a_value_error_that_says_what_to_give(plans, said):
    with pytest.raises(ValueError, match=said):
        compare(plans)
