"""A learner in a real JupyterLab: opens, runs, errs, sees it drawn, mends, saves; Chromium drives it.

The server is the one that `mlsys-lab open --no-browser` starts. Run with MLSYS_LAB_SHOTS=DIR for pictures.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autograder.assignment import find
from autograder.notebook import code_cells
from autograder.workspace import course_files, put_files

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "test"
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
WRONG = "return [0]"
RIGHT = [
    "stale = set()",
    "for _ in counts:",
    "    for i, mine in enumerate(counts):",
    "        for j, other in enumerate(counts):",
    "            if i != j and reads[i] & writes[j] and (other > mine or j in stale):",
    "                stale.add(i)",
    "return sorted(stale)",
]
COURSE = find(ROOT)
HOMEWORK = [name for name, assignment in COURSE.items() if not assignment.is_lab]

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(browser: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The workspace and the address of a running `open`; the path has a space and an umlaut."""
    home = tmp_path_factory.mktemp("Kurs für mich")
    put_files(course_files(find(ROOT)), home)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = "from mlsys_lab.cli import main; main()"
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", start, "open", "--no-browser", "--port", str(port)],
            cwd=home,
            env=os.environ | {"JUPYTER_TOKEN": TOKEN, "PYTHONPATH": path},
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: get(address, "status") is not None, 60, "the server answers")
        yield home / "workspace", address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(autouse=True)
def within_four_minutes() -> Iterator[None]:
    """A browser that hangs is a failure, not a run without end."""

    def stop(*_: Any) -> None:
        raise TimeoutError("the browser did not come to an end within four minutes")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(240)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def chromium(browser: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser, headless=True, args=list(QUIET))
        yield started.new_context(viewport={"width": 1200, "height": 900})  # what one page loaded serves all
        started.close()


def get(address: str, what: str) -> Any:
    """An answer of the server's API, or None while it does not answer."""
    try:
        with urllib.request.urlopen(f"{address}/api/{what}?token={TOKEN}", timeout=5) as reply:
            return json.load(reply)
    except OSError:
        return None


def wait_for(holds: Any, seconds: float, claim: str) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, f"not within {seconds:g} s: {claim}"
        time.sleep(0.25)


class Notebook:
    """One notebook open in a page; counts every request that would leave the machine."""

    def __init__(self, chromium: Any, address: str, path: str) -> None:
        self.address, self.path, self.foreign = address, path, []
        self.page = chromium.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("request", self._note)
        self.page.goto(f"{address}/lab/tree/{path}?token={TOKEN}&reset")
        self.page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=120_000)
        # The page says "idle" before there is a kernel; the server knows.
        wait_for(self._kernel_idle, 60, "a kernel is idle")
        self.page.wait_for_timeout(500)

    def _note(self, request: Any) -> None:
        own = (self.address, self.address.replace("http", "ws"), "data:", "blob:")
        if not request.url.startswith(own):
            self.foreign.append(request.url)

    def _session(self) -> Any:
        return next((s for s in get(self.address, "sessions") or [] if s["path"] == self.path), None)

    def _kernel_idle(self) -> bool:
        session = self._session()
        return (
            bool(session)
            and session["kernel"]["execution_state"] == "idle"
            and session["kernel"]["connections"]
        )

    def close(self) -> None:
        """Close the page and end the kernel, as a person does who shuts a notebook down."""
        self.page.close()
        url = f"{self.address}/api/sessions/{self._session()['id']}?token={TOKEN}"
        urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=20).close()

    def run_all(self) -> None:
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
        self.page.wait_for_timeout(300)
        # A cell that has not run shows an empty bracket, one that waits a star.
        pending = self.page.locator(".jp-CodeCell .jp-InputPrompt", has_text=re.compile(r"\[[* ]\]"))
        wait_for(lambda: pending.count() == 0 and self._kernel_idle(), 120, "all cells have run")

    def cell(self, text: str) -> Any:
        return (
            self.page.locator(".jp-CodeCell")
            .filter(has=self.page.locator(".cm-content", has_text=text))
            .first
        )

    def run(self, text: str, says: str = "") -> None:
        """Run the cell that holds a text, and see it say something."""
        cell = self.cell(text)
        prompt = cell.locator(".jp-InputPrompt").first
        before = prompt.inner_text()
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")
        # A page that is slow shows the old number for a while, and outputs after the number.
        wait_for(
            lambda: re.match(r"\[\d+\]", prompt.inner_text()) and prompt.inner_text() != before, 60, text
        )
        if says:
            output = cell.locator(".jp-OutputArea").first
            wait_for(lambda: says in output.inner_text(), 20, f"{text} says {says!r}")

    def type_over(self, text: str, line: str, new: list[str]) -> None:
        """Replace one line of a cell by typing, as a person does: the editor indents what follows.

        Where a page that is still being laid out moves under the click, another line is replaced than was
        meant: a person sees it, undoes it and types again.
        """
        cell = self.cell(text)
        content = cell.locator(".cm-content")
        before = content.inner_text()
        for _ in range(3):
            cell.locator(".cm-line", has_text=line).click()
            self.page.keyboard.press("Home")
            self.page.keyboard.press("Shift+End")
            for i, row in enumerate(new):
                if i:
                    self.page.keyboard.press("Enter")
                    self.page.keyboard.press("Shift+Home")  # the indentation that the editor proposes
                    row = "    " + row
                self.page.keyboard.insert_text(row)
            after = content.inner_text()
            if line not in after.replace("\n".join(new), "") and new[0] in after:
                return
            for _ in range(20):
                if content.inner_text() == before:
                    break
                self.page.keyboard.press("Control+z")
        raise AssertionError(f"{new[0]!r} was not typed over {line!r}: {after}")

    def save(self) -> None:
        self.page.keyboard.press("Control+s")


def test_a_learner_errs_sees_it_drawn_mends_it_and_saves(server, chromium):
    workspace, address = server
    lab = Notebook(chromium, address, "labs/00_trust.ipynb")
    assert lab.page.locator(".jp-Toolbar", has_text="MLSys Lab").count(), "the kernel is shown by its name"

    lab.run_all()
    first = lab.cell('check("lab00.q1"')
    wait_for(lambda: "not solved yet" in first.inner_text(), 20, "an unsolved check says so")
    assert lab.page.locator('.jp-OutputArea-output[data-mime-type*="error"]').count() == 0
    pictures = lab.page.locator(".jp-OutputArea-output img")
    wait_for(lambda: pictures.count() >= 4, 20, "four figures")
    assert all(pictures.nth(i).get_attribute("alt") for i in range(pictures.count())), (
        "each picture has its words"
    )

    lab.type_over("def stale_cells", "raise NotImplementedError", [WRONG])
    lab.run("def stale_cells")
    lab.run('check("lab00.q1"', says="expected")
    assert "hint 1" in lab.cell('check("lab00.q1"').inner_text().lower()
    drawn = lab.cell('check("lab00.q1"').locator("figure.check img, .jp-OutputArea img")
    wait_for(lambda: drawn.count() == 1, 20, "what differs is drawn")
    assert "expected" in drawn.get_attribute("alt")
    if os.environ.get("MLSYS_LAB_SHOTS"):
        Path(os.environ["MLSYS_LAB_SHOTS"]).mkdir(parents=True, exist_ok=True)
        drawn.scroll_into_view_if_needed()
        lab.page.wait_for_timeout(500)
        lab.page.screenshot(path=Path(os.environ["MLSYS_LAB_SHOTS"]) / "00_trust-wrong-answer.png")

    lab.type_over("def stale_cells", WRONG, RIGHT)
    lab.run("def stale_cells")
    lab.run('check("lab00.q1"', says="lab00.q1: correct")

    text = workspace / "labs" / "00_trust.py"
    before = text.read_text(encoding="utf-8")
    lab.save()
    wait_for(lambda: text.read_text(encoding="utf-8") != before, 20, "saving writes the paired .py")
    after = text.read_text(encoding="utf-8")
    assert "stale.add(i)" in after
    assert code_cells(after.encode(), ".py") == code_cells(text.with_suffix(".ipynb").read_bytes())
    assert lab.foreign == []
    lab.page.close()  # its kernel stays, as when somebody closes a tab


def test_a_second_open_leads_to_the_server_that_runs_already(server):
    workspace, address = server
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    start = "from mlsys_lab.cli import main; main()"
    again = subprocess.run(
        [sys.executable, "-c", start, "open", "--no-browser"],
        cwd=workspace.parent,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert again.returncode == 0
    assert f"{address}/lab?token={TOKEN}" in again.stdout


def test_what_was_saved_is_there_again_and_is_not_renewed(server):
    from autograder.jupyter import prepare

    workspace, address = server
    report = prepare(workspace.parent, workspace)
    assert (report.created, report.updated, report.kept) == ([], [], {})
    opened = get(address, "contents/labs/00_trust.ipynb")  # what a page that opens it is given
    assert sum("stale.add(i)" in cell["source"] for cell in opened["content"]["cells"]) == 1


@pytest.mark.parametrize("name", HOMEWORK)
def test_an_exercise_of_a_homework_is_saved_to_both_its_files(name, server):
    """As the page saves it: the whole notebook goes to the server, which writes the pair."""
    workspace, address = server
    path = f"assignments/{name}/{name}.ipynb"
    opened = get(address, f"contents/{path}")
    exercise = next(c for c in opened["content"]["cells"] if "exercise" in c["metadata"].get("tags", []))
    exercise["source"] = exercise["source"].replace("raise NotImplementedError", "return 'mine'")
    assert "return 'mine'" in exercise["source"]
    send = urllib.request.Request(
        f"{address}/api/contents/{path}?token={TOKEN}",
        json.dumps({key: opened[key] for key in ("content", "format", "type")}).encode(),
        {"Content-Type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(send, timeout=20).close()
    notebook = workspace / path
    assert code_cells(notebook.read_bytes()) == code_cells(notebook.with_suffix(".py").read_bytes(), ".py")
    assert exercise["source"] in code_cells(notebook.read_bytes())
    again = get(address, f"contents/{path}")["content"]["cells"]
    assert [c["metadata"].get("nbgrader") for c in again] == [
        c["metadata"].get("nbgrader") for c in opened["content"]["cells"]
    ]


@pytest.mark.parametrize("name", list(COURSE))
def test_pictures_of_a_notebook_in_light_and_dark(name, server, chromium):
    folder = os.environ.get("MLSYS_LAB_SHOTS")
    if not folder:
        pytest.skip("pictures are made with --shots DIR")
    _, address = server
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = COURSE[name].notebook.relative_to(ROOT).as_posix()
    for theme in ("Light", "Dark"):
        shot = Notebook(chromium, address, path)
        shot.page.get_by_role("menuitem", name="Settings", exact=True).click()
        shot.page.locator(".lm-Menu-itemLabel", has_text="Theme").first.hover()
        shot.page.locator(".lm-Menu-itemLabel", has_text=f"JupyterLab {theme}").first.click()
        shot.run_all()
        for i, screen in enumerate(("top", "figure")):
            picture = shot.page.locator(".jp-OutputArea-output img").nth(1)
            if i and picture.count():
                picture.scroll_into_view_if_needed()
            elif not i:
                shot.page.locator(".jp-Cell").first.scroll_into_view_if_needed()
            shot.page.wait_for_timeout(800)
            shot.page.screenshot(path=Path(folder) / f"{Path(path).stem}-{theme.lower()}-{screen}.png")
        shot.close()
