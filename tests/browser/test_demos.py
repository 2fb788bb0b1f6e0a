"""The demos in a real browser: stepped by keys alone, drawn as told, quiet, readable in light and dark.

Run with MLSYS_LAB_SHOTS=DIR for a picture of a step of each, and for their strips.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlsys_lab import viz
from mlsys_lab.viz.demos import DEMOS
from tests.conftest import need_front_end

QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    "--disable-background-networking",
)
SHOTS = os.environ.get("MLSYS_LAB_SHOTS")
# What is drawn: per shape its class and lines.
DRAWN = """() => Object.fromEntries([...document.querySelectorAll('g[id^="shape-"]')].map(g => [
  g.id.slice(6), [g.getAttribute('class'), [...g.querySelectorAll('tspan')].map(t => t.textContent)]]))"""
# Texts that are wider than their box, or higher.
OUTSIDE = """() => [...document.querySelectorAll('g[id^="shape-"]')].filter(g => {
  const text = g.querySelector('text'), box = g.querySelector('.box');
  if (!text || !text.textContent) return false;
  const [a, b] = [text.getBBox(), box.getBBox()];
  return a.x < b.x || a.y < b.y || a.x + a.width > b.x + b.width || a.y + a.height > b.y + b.height;
}).map(g => g.textContent)"""

pytestmark = [pytest.mark.browser]
demos = pytest.mark.parametrize("name", sorted(DEMOS))


@pytest.fixture(autouse=True)
def front_end(request: pytest.FixtureRequest) -> None:
    """The demo of a warp compiles kernels."""
    call = getattr(request.node, "callspec", None)
    if call is not None and "warp" in str(call.params.get("name")):
        need_front_end()


@pytest.fixture(scope="module")
def chromium(browser: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=browser, headless=True, args=list(QUIET))
        yield running
        running.close()


class Page:
    """A demo's page, which notes what it asks for and complains of."""

    def __init__(self, chromium: Any, folder: Path, name: str, **options: Any) -> None:
        self.stepper = DEMOS[name]()
        self.path = folder / f"{name}.html"
        self.stepper.save(self.path)
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page = chromium.new_page(viewport={"width": 1100, "height": 1000}, **options)
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.on("console", lambda m: self.errors.append(m.text))
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.goto(self.path.as_uri())

    def holds(self, i: int) -> None:
        """The page shows step i, all of it."""
        state = self.stepper.states[i]
        drawn = self.page.evaluate(DRAWN)
        assert drawn == {key: [s.tone, list(s.lines)] for key, s in state.items()}
        assert self.page.locator("#say").inner_text() == self.stepper.steps[i].say
        assert self.page.locator("#count").inner_text() == f"{i + 1} of {len(self.stepper.steps)}"
        assert self.page.locator("#place").input_value() == str(i + 1)


@demos
def test_arrow_keys_lead_through_every_step_and_back_and_the_page_asks_nobody(chromium, tmp_path, name):
    shown = Page(chromium, tmp_path, name)
    last = len(shown.stepper.steps) - 1
    shown.holds(0)
    for i in range(1, last + 1):
        shown.page.keyboard.press("ArrowRight")
        shown.holds(i)
        assert shown.page.evaluate(OUTSIDE) == []
    shown.page.keyboard.press("ArrowRight")
    shown.holds(last)
    for i in reversed(range(last)):
        shown.page.keyboard.press("ArrowLeft")
        shown.holds(i)
    shown.page.keyboard.press("End")
    shown.holds(last)
    shown.page.keyboard.press("Home")
    shown.holds(0)
    assert shown.asked == [shown.path.as_uri()]
    assert shown.errors == []


@demos
def test_the_keys_of_a_presenters_remote_lead_through_the_steps(chromium, tmp_path, name):
    shown = Page(chromium, tmp_path, name)
    for i, key in enumerate(("PageDown", "Space", "Enter"), 1):
        shown.page.keyboard.press(key)
        shown.holds(i)
    shown.page.keyboard.press("PageUp")
    shown.holds(2)
    shown.page.locator("summary").focus()
    shown.page.keyboard.press("Enter")  # presses what has the focus: no step
    shown.holds(2)
    assert shown.page.locator("details").get_attribute("open") is not None


@demos
@pytest.mark.parametrize("window", [(1280, 800), (1920, 1080)])
def test_every_step_fits_the_window_and_fills_it(chromium, tmp_path, name, window):
    shown = Page(chromium, tmp_path, name)
    shown.page.set_viewport_size(dict(zip(("width", "height"), window, strict=True)))
    for i in range(len(shown.stepper.steps)):
        shown.holds(i)
        sticks_out = "document.documentElement.scrollHeight - innerHeight"
        assert shown.page.evaluate(sticks_out) <= 0, f"step {i}"
        shown.page.keyboard.press("ArrowRight")
    far = "Math.max(...[...document.querySelectorAll('.box')].map(b => b.getBoundingClientRect().{}))"
    low, right = (shown.page.evaluate(far.format(edge)) for edge in ("bottom", "right"))
    assert low <= window[1]
    assert right <= window[0]
    assert low >= 0.75 * window[1], "the lower part of the window is not left empty"


@demos
def test_buttons_and_slider_are_reached_by_tab_and_work_by_key(chromium, tmp_path, name):
    shown = Page(chromium, tmp_path, name)
    last = len(shown.stepper.steps) - 1
    reached = []
    for _ in range(6):
        shown.page.keyboard.press("Tab")
        reached.append(shown.page.evaluate("document.activeElement.id || document.activeElement.localName"))
    assert reached == ["first", "back", "next", "last", "place", "summary"]
    for button, i in (("next", 1), ("last", last), ("back", last - 1), ("first", 0)):
        shown.page.locator(f"#{button}").focus()
        shown.page.keyboard.press("Enter")
        shown.holds(i)
    shown.page.locator("#place").focus()
    shown.page.keyboard.press("ArrowRight")  # the slider's own key: one step, not two
    shown.holds(1)
    assert shown.errors == []


@demos
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_light_and_dark(chromium, tmp_path, name, scheme):
    from axe_playwright_python.sync_playwright import Axe

    shown = Page(chromium, tmp_path, name, color_scheme=scheme)
    shown.page.locator("summary").click()
    for i in (0, len(shown.stepper.steps) * 2 // 3):
        for _ in range(i):
            shown.page.keyboard.press("ArrowRight")
        shown.page.wait_for_timeout(400)
        assert [v["id"] for v in Axe().run(shown.page).response["violations"]] == []
    told = shown.page.locator("details li").all_inner_texts()
    assert told == shown.stepper.transcript
    if SHOTS:
        folder = Path(SHOTS)
        folder.mkdir(parents=True, exist_ok=True)
        shown.page.locator("summary").click()
        shown.page.screenshot(path=folder / f"demo-{name}-{scheme}.png")
        shown.stepper.filmstrip(folder / f"demo-{name}-strip.png")


@demos
def test_who_wants_less_motion_gets_none(chromium, tmp_path, name):
    moving = "[...document.querySelectorAll('.box, .level, polyline')].some(" \
        "e => parseFloat(getComputedStyle(e).transitionDuration) > 0)"  # fmt: skip
    assert Page(chromium, tmp_path, name).page.evaluate(moving)
    assert not Page(chromium, tmp_path, name, reduced_motion="reduce").page.evaluate(moving)


@demos
def test_without_scripts_the_first_step_and_the_transcript_are_there(chromium, tmp_path, name):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    stepper = DEMOS[name]()
    (tmp_path / "page.html").write_text(stepper.page(), encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    drawn = page.locator("svg tspan").all_text_contents()
    assert drawn == [text for shape in stepper.shapes.values() for text in shape.lines]
    assert page.get_by_role("button").count() == 0
    page.locator("summary").click()
    assert page.locator("details li").all_inner_texts() == stepper.transcript
    assert page.get_by_text("Scripts are off").is_visible()
    context.close()


def test_a_notebooks_frame_steps_by_key_too(chromium, tmp_path):
    stepper = viz.backward_steps(lambda x: (x * x).sum(), x=[1.0, 2.0])
    (tmp_path / "page.html").write_text(f"<!doctype html>{stepper._repr_html_()}", encoding="utf-8")
    page = chromium.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    frame = page.frame_locator("iframe")
    frame.locator("#next").click()
    page.keyboard.press("ArrowRight")
    assert frame.locator("#say").inner_text() == stepper.steps[2].say
    height = page.frames[1].evaluate("document.documentElement.scrollHeight - innerHeight")
    assert height <= 0, "nothing to scroll in the frame"
