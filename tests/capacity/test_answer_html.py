"""An answer in a notebook: well-formed, escaped, self-contained, and every bar said in words beside it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from mlsys_lab._core.hardware import device
from mlsys_lab.capacity import Interval, Load, answers, fewest_gpus, language_model
from mlsys_lab.capacity.answers import Answer

BAD = '<script>alert("1 & 2")</script>'


def parsed(thing):
    """The fragment as a tree: it is well-formed XML, so every browser reads it alike."""
    return ElementTree.fromstring(thing._repr_html_())


def rows(tree):
    return [["".join(cell.itertext()) for cell in row] for row in tree.iter("tr")]


@pytest.fixture
def plan():
    return answers.serving(
        fewest_gpus(language_model("llama-2-70b"), device("H100"), Load(5, 512, 256, 0.5, 0.05))
    )


def test_the_table_tells_what_the_command_prints(plan):
    tree = parsed(plan)
    told = {" ".join(row[:2]).strip() for row in rows(tree)}
    assert told == {" ".join(line.split()) for line in (re.sub(r"\s+", " ", x) for x in plan.lines())}


def test_each_bar_has_its_number_and_share_beside_it_and_is_as_wide(plan):
    parts = plan.values["parts"]
    bars = [row for row in parsed(plan).iter("tr") if list(row.iter("span"))]
    assert len(bars) == len(parts) == 4
    whole = sum(parts.values())
    for row, size in zip(bars, parts.values(), strict=True):
        _, number, share, _ = ("".join(cell.itertext()) for cell in row)
        assert share == f"{size / whole:.1%}"
        assert number.endswith("B")
        bar = next(row.iter("span"))
        assert bar.get("aria-hidden") == "true"
        width = float(re.search(r"width:([\d.]+)em", bar.get("style"))[1])
        assert width == pytest.approx(12 * size / whole, abs=0.006)


def test_the_derivation_is_in_it_step_by_step(plan):
    tree = parsed(plan)
    assert ["".join(x.itertext()) for x in tree.iter("dt")] == [what for what, _, _ in plan.steps]


def test_text_is_escaped_and_nothing_is_fetched():
    answer = Answer({BAD: 1, "parts": {BAD: 2.0, "none": 0.0}}, [(BAD, BAD, BAD)])
    interval = Interval(1, 2, 3, "assumed", (BAD,))
    for thing in (answer, interval):
        assert BAD in "".join(parsed(thing).itertext())
        assert not {e.tag for e in parsed(thing).iter()} & {"script", "img", "link", "iframe"}
        assert not re.search(r"(src|href|url)\s*[=(]", thing._repr_html_())


def test_parts_that_are_all_zero_have_no_share():
    assert ["none", "0 B", "0.0%", ""] in rows(parsed(Answer({"parts": {"none": 0.0}})))


def test_an_interval_is_drawn_with_its_text_as_the_label():
    interval = Interval(1.0, 2.5, 4.0, "calibrated", ("a row",))
    tree = parsed(interval)
    drawn = next(tree.iter("svg"))
    assert drawn.get("role") == "img"
    assert drawn.get("aria-label") == str(interval)
    assert float(next(tree.iter("circle")).get("cx")) == 100  # halfway from low to high
    assert [x.text for x in tree.iter("li")] == ["a row"]


def test_an_exact_quantity_is_its_text_alone():
    tree = parsed(Interval.exact(3.0))
    assert "".join(tree.itertext()) == "3 (exact)"
    assert not list(tree.iter("svg"))
