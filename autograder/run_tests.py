"""pytest on the trusted side: the tests of an assignment against one student's code, by value.

pytest runs here with the hidden tests; the student's code runs wherever the session keeps it (the notebook's
own process for `check`, a sandboxed worker for `grade`). A test reaches it through the fixture `student`
alone.
"""

from __future__ import annotations

import os
import re
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from autograder.compare import Mismatch
from autograder.errors import StudentError

WITHHELD = "what it compared is withheld"

#: Parts of pytest that a question's tests do without. Starting them takes longer than most of these tests;
#: unraisableexception collects garbage at the end of every session.
_NOT_NEEDED = (
    "cacheprovider",
    "debugging",
    "doctest",
    "faulthandler",
    "junitxml",
    "legacypath",
    "logging",
    "pastebin",
    "setuponly",
    "setupplan",
    "stepwise",
    "terminal",
    "threadexception",
    "unittest",
    "unraisableexception",
)


#: A session that ran: all passed, some failed, none of the question asked for.
_REGULAR = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


class Session(Protocol):
    """Where a student's code lives while tests ask for it."""

    def student(self, question: str, hidden: bool) -> Any:
        """The namespace of the student's functions and values, for a test; raises StudentError."""


@dataclass(frozen=True)
class TestResult:
    """How one test went.

    Attributes:
        title: first line of the test's docstring, what people read.
        points: what passing is worth.
        message: one line for the student; of a hidden test it names no value.
        mismatch: both sides of a failed comparison, of public tests only.
    """

    __test__ = False

    name: str
    title: str
    question: str
    points: float
    hidden: bool
    passed: bool
    message: str = ""
    seconds: float = 0.0
    mismatch: Mismatch | None = field(default=None, compare=False)

    @property
    def score(self) -> float:
        return self.points if self.passed else 0.0


class BadTest(Exception):
    """A test file cannot be collected: the instructor's fault, never the student's."""


def run_tests(
    paths: Sequence[Path], session: Session, *, seed: int, question: str | None = None
) -> list[TestResult]:
    """Run the tests of an assignment, or of one question, against one session.

    Args:
        paths: pytest files; their tests carry `question`, `points` and, where it is so, `hidden`.
        session: keeps the student's code.
        seed: of the fixture `rng`.
        question: only the tests of this question.

    Returns:
        A result per test: the public ones before the hidden, a question's one after another.

    Raises:
        BadTest: a file that pytest cannot collect, or a test without its marks.
        KeyboardInterrupt: somebody pressed Ctrl-C (Stop, in a notebook).
    """
    plugin = _Plugin(session, seed, question)
    _pytest(_that_name(question, paths), plugin)
    return plugin.results


def collect_tests(paths: Sequence[Path]) -> list[TestResult]:
    """The tests of these files, not run: each as a result without points earned.

    Raises:
        BadTest: a file that pytest cannot collect, or a test without its marks.
    """
    plugin = _Plugin(None, 0, None)
    _pytest(paths, plugin, "--collect-only")
    return plugin.collected


def _that_name(question: str | None, paths: Sequence[Path]) -> Sequence[Path]:
    """The files that name a question; reading a file is cheap, importing it with pytest is not."""
    return [p for p in paths if question is None or question in p.read_text(encoding="utf-8")] or paths


def _pytest(paths: Sequence[Path], own: _Plugin, *options: str) -> None:
    # pytest looks at every entry of each folder from the root down to the files: not at those of / and /tmp.
    root = os.path.commonpath([p.resolve().parent for p in paths]) if paths else os.getcwd()
    arguments = ["-c", "/dev/null", f"--rootdir={root}", f"--confcutdir={root}", "--noconftest"]
    arguments += ["--import-mode=importlib"]
    arguments += ["--disable-plugin-autoload", "--capture=no", "--strict-markers", *options]
    for plugin in _NOT_NEEDED:
        arguments += ["-p", f"no:{plugin}"]
    if not paths:  # pytest would take the current folder's
        raise BadTest("there are no tests")
    said = StringIO()
    before = set(sys.modules)
    with redirect_stdout(said), redirect_stderr(said):
        ended = pytest.main([*arguments, *map(str, paths)], plugins=[own])
    for name in set(sys.modules) - before:  # a test file that is renewed meanwhile is read again
        if getattr(sys.modules[name], "__file__", None) in {str(p) for p in paths}:
            del sys.modules[name]
    if own.interrupted:
        raise KeyboardInterrupt
    if not own.broken and ended not in _REGULAR:
        own.broken = f"pytest ended early: {_last_line(said.getvalue())}"
    if own.broken:
        raise BadTest(own.broken)


def _last_line(text: str) -> str:
    lines = [line.removeprefix("INTERNALERROR>").strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "it does not say why")[:300]


class _Plugin:
    """Marks in, fixtures in, results out."""

    def __init__(self, session: Session | None, seed: int, question: str | None) -> None:
        self.session, self.seed, self.question = session, seed, question
        self.results: list[TestResult] = []
        self.collected: list[TestResult] = []
        self.broken = ""
        self.interrupted = False

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.interrupted = excinfo.type is KeyboardInterrupt  # pytest's own end of a broken collection is not

    def pytest_configure(self, config: pytest.Config) -> None:
        for mark in ("question(name)", "points(n)", "hidden"):
            config.addinivalue_line("markers", mark)
        # Nobody reads its tracebacks, and pytest's own form of them parses each file on the way.
        config.option.tbstyle = "native"

    @pytest.fixture
    def student(self, request: pytest.FixtureRequest) -> Any:
        """The student's code, by value."""
        assert self.session is not None
        return self.session.student(question_of(request.node), is_hidden(request.node))

    @pytest.fixture
    def rng(self, request: pytest.FixtureRequest) -> np.random.Generator:
        """Random numbers of this run and this test."""
        return np.random.default_rng([self.seed, *request.node.name.encode()])

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if not question_of(item) or points_of(item) is None:
                self.broken = (
                    f"{item.path.name}::{item.name} needs the marks question(...) and points(NUMBER)"
                )
        if self.question is not None:
            items[:] = [item for item in items if question_of(item) == self.question]
        # The hidden ones last, since what they hand over may be said by nothing that comes later; a
        # question's tests one after another: its time is one stretch, and what it breaks is its own.
        order = list(dict.fromkeys(question_of(item) for item in items))
        items.sort(key=lambda item: (is_hidden(item), order.index(question_of(item))))
        if self.broken:
            items[:] = []
        self.collected = [_result(item, BadTest("not run"), 0.0) for item in items]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.broken = f"{report.nodeid or 'tests'} skips itself as a whole: no one would get its points"
        elif report.failed:
            last = str(report.longrepr).strip().splitlines()[-1:]
            self.broken = f"{report.nodeid or 'tests'} cannot be collected: {' '.join(last)}"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._excinfo: BaseException | None = None
        started = time.perf_counter()
        result = yield
        self.results.append(_result(item, self._excinfo, time.perf_counter() - started))
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        if call.excinfo is not None and isinstance(call.excinfo.value, pytest.FixtureLookupError):
            wanted = call.excinfo.value.argname
            self.broken = f"{item.path.name}::{item.name} asks for {wanted!r}, which there is not"
        if call.excinfo is not None and self._excinfo is None:
            self._excinfo = call.excinfo.value
        return (yield)


def question_of(item: pytest.Item) -> str:
    """The question a test belongs to, or nothing."""
    mark = item.get_closest_marker("question")
    return str(mark.args[0]) if mark and mark.args else ""


def points_of(item: pytest.Item) -> float | None:
    """What a test is worth, or None where it does not say so in a number."""
    mark = item.get_closest_marker("points")
    worth = mark.args[0] if mark and mark.args else None
    return float(worth) if isinstance(worth, int | float) else None


def is_hidden(item: pytest.Item) -> bool:
    """Is this a test that students never see?"""
    return item.get_closest_marker("hidden") is not None


def title_of(item: pytest.Item) -> str:
    """First line of a test's docstring; its name in words where it has none."""
    text = (getattr(item, "function", None) and item.function.__doc__) or ""  # type: ignore[attr-defined]
    if not text.strip():
        return item.name.removeprefix("test_").replace("_", " ")
    return text.strip().splitlines()[0].rstrip(".")  # it goes on after a colon


def _result(item: pytest.Item, error: BaseException | None, seconds: float) -> TestResult:
    hidden = is_hidden(item)
    error = _rebound(error, item.path)
    return TestResult(
        name=item.name,
        title=title_of(item),
        question=question_of(item),
        points=points_of(item) or 0.0,
        hidden=hidden,
        passed=error is None,
        message="" if error is None else (_hidden if hidden else _public)(error, item.path),
        seconds=seconds,
        mismatch=error if isinstance(error, Mismatch) and not hidden else None,
    )


def _rebound(error: BaseException | None, test: Path) -> BaseException | None:
    """Say of a function whose name was bound to a value since what happened: Python names only the type."""
    if not isinstance(error, TypeError) or not str(error).endswith("object is not callable"):
        return error
    frame = traceback.extract_tb(error.__traceback__)[-1]
    called = re.findall(r"\bstudent\.(\w+)\(", frame.line or "")
    if Path(frame.filename) != test or len(set(called)) != 1:
        return error
    kind = str(error).split("'")[1]
    text = f"{called[0]} is a value of type {kind}, not a function: is the name used again further down?"
    return StudentError("TypeError", text)


def _public(error: BaseException, test: Path) -> str:
    """One line that helps: what was expected, or the student's own error with its place."""
    if isinstance(error, StudentError):
        return error.public()
    if isinstance(error, AssertionError):
        lines = str(error).strip().splitlines()
        return lines[0] if lines else f"an assertion failed on line {_line_in(error, test)} of {test.name}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]


def _hidden(error: BaseException, test: Path) -> str:
    """One line that gives neither inputs nor expected values away."""
    if isinstance(error, StudentError):
        return error.withheld()
    if isinstance(error, Mismatch):
        return f"{error.reason}; {WITHHELD}"
    return WITHHELD


def _line_in(error: BaseException, test: Path) -> int:
    lines = [
        f.lineno or 0 for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name == test.name
    ]
    return lines[-1] if lines else 0
