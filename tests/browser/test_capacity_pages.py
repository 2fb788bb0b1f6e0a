"""What capacity shows in a notebook, in a real browser: readable in light and dark, alone, within the page.

Run with MLSYS_LAB_SHOTS=DIR for its pictures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlsys_lab.capacity import answers, compare, device, model, roofline

SHOTS = os.environ.get("MLSYS_LAB_SHOTS")
PLAN = {
    "model": "gpt3", "gpu": "A100", "gpus": 1024, "tokens": "300B", "batch": 1536, "context": 2048,
    "parallel": {"tp": 8, "pp": 16, "zero": 1},
}  # fmt: skip
HEAD = "<!doctype html><html lang=en><meta charset=utf-8><title>capacity</title>"
STYLE = "<style>:root{color-scheme:light dark}body{font:14px/1.4 sans-serif}</style>"


def comparison() -> Any:
    other = PLAN | {"gpu": "H100", "gpus": 512, "parallel": {"tp": 8, "pp": 8, "zero": 1}}
    return compare({"1024 A100": PLAN, "512 H100": other})


def roof() -> Any:
    return roofline(device("H100"), model("llama-2-7b"), context=2048)


def cache() -> Any:
    return answers.kv_cache(model("llama-3-8b"), 4096, 8, 2, "bfloat16")


@pytest.fixture(scope="module")
def chromium(browser: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=browser, headless=True, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("make", [comparison, roof, cache], ids=lambda f: f.__name__)
def test_it_asks_nobody_fits_the_page_and_axe_finds_nothing(
    chromium: Any, make: Callable[[], Any], tmp_path: Path, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    file = tmp_path / "page.html"
    file.write_text(f"{HEAD}{STYLE}<main><h1>capacity</h1>{make()._repr_html_()}</main></html>", "utf-8")
    page = chromium.new_page(viewport={"width": 1000, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url))
    page.goto(file.as_uri())
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"capacity-{make.__name__}-{scheme}.png")
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= 1000
    assert [v["id"] for v in Axe().run(page).response["violations"]] == []
    page.close()
