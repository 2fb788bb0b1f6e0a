"""The what-if explorer in a real browser: what it shows is what Python computes, by keys alone.

Run with MLSYS_LAB_SHOTS=DIR for its pictures.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mlsys_lab._core.hardware import device
from mlsys_lab._core.quantity import show
from mlsys_lab.capacity import answers, explore
from mlsys_lab.capacity.costs import cost_usd, rent
from mlsys_lab.capacity.interval import Interval
from mlsys_lab.capacity.plan_file import as_plan
from mlsys_lab.capacity.plans import trains

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)
SHOTS = os.environ.get("MLSYS_LAB_SHOTS")
PLAN = {
    "model": "llama-2-7b", "gpu": "A100", "gpus": 64, "tokens": "2T", "context": 4096, "batch": 1024,
    "parallel": {"tp": 2, "pp": 2},
}  # fmt: skip
pytestmark = [pytest.mark.browser]


@pytest.fixture(scope="module")
def explorer() -> Any:
    return explore(PLAN, micro_batch=[1, 8, 64], dp=[8, 16, 24], tp=[1, 2, 3], gpu=["A100", "H100", "T4"])


@pytest.fixture(scope="module")
def chromium(browser: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=browser, headless=True, args=list(QUIET))
        yield running
        running.close()


def opened(chromium: Any, explorer: Any, folder: Path, **options: Any) -> Any:
    explorer.save(folder / "explorer.html")
    page = chromium.new_page(viewport={"width": 900, "height": 800}, **options)
    page.asked, page.errors = [], []
    page.on("request", lambda r: page.asked.append(r.url))
    page.on("console", lambda m: page.errors.append(m.text))
    page.on("pageerror", lambda e: page.errors.append(str(e)))
    page.goto((folder / "explorer.html").as_uri())
    return page


def choose(page: Any, explorer: Any, chosen: dict[str, Any]) -> None:
    """Each slider by keys: to its start, then so many steps to the right."""
    for name, value in chosen.items():
        slider = page.locator(f"input[name={name}]")
        slider.focus()
        page.keyboard.press("Home")
        for _ in range(list(explorer.axes[name]).index(value)):
            page.keyboard.press("ArrowRight")
        assert slider.get_attribute("aria-valuetext") == str(value)


def say(page: Any, name: str) -> str:
    return page.locator(f"[data-say={name}]").inner_text()


def three(interval: Interval, unit: str) -> str:
    low, mid, high = (show(v, unit) for v in (interval.low, interval.mid, interval.high))
    return f"{mid} ({low} to {high})"


def near(shown: str, expected: str) -> bool:
    """The same words, and numbers that differ by no more than their last digit."""
    numbers = r"[\d,]*\.?\d+(?:e[+-]\d+)?"
    if re.sub(numbers, "#", shown) != re.sub(numbers, "#", expected):
        return False
    pairs = zip(re.findall(numbers, shown), re.findall(numbers, expected), strict=True)
    return all(
        float(a.replace(",", "")) == pytest.approx(float(b.replace(",", "")), rel=1e-5) for a, b in pairs
    )


def test_whatever_is_chosen_by_keys_the_page_says_what_python_computes(chromium, explorer, tmp_path):
    page, draw = opened(chromium, explorer, tmp_path), random.Random(0)
    fitted = set()
    choices = [{name: draw.choice(list(values)) for name, values in explorer.axes.items()} for _ in range(25)]
    for chosen in [dict(explorer.start), *choices]:
        choose(page, explorer, chosen)
        on, cell = device(chosen["gpu"]), explorer.at(**chosen)
        if not cell.parts:
            fitted.add("none")
            assert say(page, "fits") == f"no such layout: {cell.why}"
            assert say(page, "step") == "-"
            continue
        p, w = explorer.layout(**chosen)
        expected = trains(as_plan(PLAN), on, p, w).values
        has, peak = on.memory_bytes, round(expected["peak_bytes"])
        over = f"{show(peak, 'B')}, {show(peak - has, 'B')} more than {show(has, 'B')}"
        fits = f"it fits: {show(peak, 'B')} of {show(has, 'B')}"
        assert say(page, "fits") == (fits if peak <= has else f"it does not fit: {over}")
        fitted.add(peak <= has)
        assert say(page, "gpus") == f"{p.gpus:,} {on.name}"
        rows = page.locator("tr[data-part]:visible")
        shown = {r.locator("th").inner_text(): r.locator("td").first.inner_text() for r in rows.all()}
        assert shown == {k: show(round(v), "B") for k, v in expected["parts"].items()}
        assert near(say(page, "step"), three(expected["step_s"], "s"))
        assert near(say(page, "time"), three(expected["time_s"], "s"))
        rented = three(cost_usd(expected["gpu_hours"], rent(on)), "USD") if on.usd_per_hour[1] else "-"
        assert near(say(page, "cost"), rented)
    assert fitted == {True, False, "none"}, "all three cases were met"
    assert page.asked == [(tmp_path / "explorer.html").as_uri()]
    assert page.errors == []
    page.close()


def test_bars_stand_one_after_the_other_up_to_the_peak(chromium, explorer, tmp_path):
    page = opened(chromium, explorer, tmp_path)
    boxes = [b.bounding_box() for b in page.locator("tr[data-part]:visible span").all()]
    mark = page.locator("[data-say=mark]").bounding_box()
    whole = mark["x"] - boxes[0]["x"]
    peak, has = explorer.at().peak_bytes, device("A100").memory_bytes
    for before, after in pairwise(boxes):
        assert after["x"] == pytest.approx(before["x"] + before["width"], abs=1)
    assert boxes[-1]["x"] + boxes[-1]["width"] - boxes[0]["x"] == pytest.approx(whole * peak / has, abs=2)
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_light_and_dark(chromium, explorer, tmp_path, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(chromium, explorer, tmp_path, color_scheme=scheme)
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"explorer-{scheme}.png", full_page=True)
    page.locator("summary").click()
    found = [v["id"] for v in Axe().run(page).response["violations"]]
    assert [v for v in found if v not in ("landmark-one-main", "region")] == [], "a fragment has no landmarks"
    page.close()


def test_without_scripts_the_tables_are_there_and_the_sliders_are_not(chromium, explorer, tmp_path):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    explorer.save(tmp_path / "explorer.html")
    page.goto((tmp_path / "explorer.html").as_uri())
    assert page.locator("input:visible").count() == 0
    text = page.inner_text("body")
    assert "llama-2-7b on 64 A100 (micro-batch 1, context 4096, dp 16, ZeRO 1, tp 2, pp 2" in text
    for zero in range(4):
        assert show(explorer.at(zero=zero).peak_bytes, "B") in text
    assert "no such layout: 32 heads are not divisible by tp 3" in text
    context.close()


def test_two_in_a_notebook_move_apart(chromium, explorer, tmp_path):
    other = explore(PLAN | {"model": "gpt2", "context": 1024}, tp=[1, 2], pp=[2], dp=[16], micro_batch=[1])
    both = "<!doctype html>" + explorer._repr_html_() + other._repr_html_()
    (tmp_path / "two.html").write_text(both, encoding="utf-8")
    page = chromium.new_page()
    page.goto((tmp_path / "two.html").as_uri())
    before = page.locator("[data-say=fits]").first.inner_text()
    page.locator("input[name=zero]").nth(1).focus()
    page.keyboard.press("End")
    assert page.locator("[data-say=fits]").first.inner_text() == before
    expected = answers.told("bytes", other.at(zero=3).peak_bytes)
    assert expected in page.locator("[data-say=fits]").nth(1).inner_text()
    page.close()
