"""A report in a real browser: it reads in light and dark, runs nothing and asks nobody for anything.

Run with MLSYS_LAB_SHOTS=DIR for pictures of it and of the terminal's table.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from autograder.assignment import load_assignment
from autograder.classroom import Plan, grade_class
from autograder.submission import collect

ROOT = Path(__file__).resolve().parents[2]
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)
SHOTS = os.environ.get("MLSYS_LAB_SHOTS")

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def graded(sandboxed, tmp_path_factory):
    """Three of the bundled class of hw1, graded without the clean start."""
    assignment = load_assignment(ROOT / "assignments" / "hw1")
    out = tmp_path_factory.mktemp("grades")
    class_ = collect([assignment.folder / "samples"], assignment)
    found = [s for s in class_ if s.student in ("ben", "cleo", "hal")]
    rows = grade_class(found, assignment, Plan(sandboxed, ROOT / "mlsys_lab", nbval=False, jobs=2), out)
    return rows, out


@pytest.fixture
def chromium(browser):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=browser, headless=True, args=list(QUIET))
        yield running
        running.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_reads_in_light_and_dark_and_asks_nobody_for_anything(graded, chromium, scheme):
    from axe_playwright_python.sync_playwright import Axe

    _, out = graded
    page = chromium.new_page(viewport={"width": 1000, "height": 1400}, color_scheme=scheme)
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda r: asked.append(r.url))
    page.on("console", lambda m: errors.append(m.text))
    path = out / "ben_hw1" / "report.html"
    page.goto(path.as_uri())
    assert asked == [path.as_uri()]
    assert errors == []
    assert page.locator("h1").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("section.test.failed").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
        "nothing to scroll sideways"
    )
    ratio = page.evaluate(_CONTRAST)
    assert ratio >= 4.5, "the least contrast of text to its ground, as WCAG 2 AA asks"
    assert [violation["id"] for violation in Axe().run(page).response["violations"]] == []
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SHOTS) / f"report-{scheme}.png")


# The least contrast of the page's own text colours to its ground, by WCAG 2's formula.
_CONTRAST = """() => {
  const lum = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
      .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2]; };
  const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
      if (!/, 0\\)$/.test(c) && c !== 'transparent') return c; } return 'rgb(255,255,255)'; };
  return Math.min(...[...document.querySelectorAll('h1,h2,p,td,th,pre,a,small,span.state,footer')]
    .filter(e => e.textContent.trim()).map(e => {
      const [a, b] = [lum(getComputedStyle(e).color), lum(ground(e))].sort((x, y) => y - x);
      return (a + 0.05) / (b + 0.05); }));
}"""


def test_the_terminals_table_fits_and_names_every_submission(graded, chromium):
    from rich.console import Console

    from autograder.screen import closing, table

    rows, _ = graded
    console = Console(record=True, width=110, file=io.StringIO(), force_terminal=True)
    console.print(table(rows))
    console.print(closing(rows, Path("grades/hw1")), highlight=False)
    text = console.export_text(clear=False)
    for row in rows:
        assert row.name in text
        assert f"{row.score:g} / {row.max_score:g}" in text
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page = chromium.new_page(viewport={"width": 1200, "height": 560})
        page.set_content(console.export_html())
        page.screenshot(path=Path(SHOTS) / "terminal-table.png")
