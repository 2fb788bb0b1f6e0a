"""The release that a course says it is: stamped into what students get, held to by the grader."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from autograder.assignment import UsageError, find, load_assignment
from autograder.grade import grade
from autograder.run_tests import TestResult as Result
from autograder.submission import Submission
from autograder.versions import configured, order, stamped
from autograder.workspace import student_files

NOTEBOOK = "assignments/toy/toy.ipynb"


def instructors(toy: Path, folder: Path, version: str) -> Path:
    """An instructor's course of the toy homework, as of one release; its homework's folder."""
    shutil.copytree(toy.parents[1], folder)
    (folder / "pyproject.toml").write_text(f'[tool.mlsys-lab]\nrelease = "{version}"\n')
    return folder / "assignments" / "toy"


@pytest.fixture
def hand_in(toy, tmp_path) -> dict[str, bytes]:
    """The toy homework as students get it in release 2026.1, by ending."""
    files = student_files(find(instructors(toy, tmp_path / "last year", "2026.1").parents[1]))
    return {kind: files[NOTEBOOK.replace(".ipynb", kind)] for kind in (".ipynb", ".py")}


def graded(toy: Path, tmp: Path, data: bytes, kind: str, accepts: str = "") -> Any:
    folder = instructors(toy, tmp / "grader", "2027.1")
    text = (folder / "assignment.toml").read_text()
    (folder / "assignment.toml").write_text(accepts + text)

    class Nobody:
        def worker(self) -> None:
            raise AssertionError("nothing of it is run")

    submission = Submission("ada_toy", "ada", "ada_toy.ipynb", data, kind)
    return grade(submission, load_assignment(folder), workers=Nobody(), kernels=None, seed=0, stamp={})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [".ipynb", ".py"])
def test_a_hand_in_of_last_year_is_refused_in_one_line_with_both_releases(kind, hand_in, toy, tmp_path):
    data = hand_in[kind]
    row = graded(toy, tmp_path, data, kind)
    assert (row.status, row.score) == ("error", 0)
    assert row.message.startswith("made from release 2026.1 of the course, and this grades release 2027.1")
    assert "\n" not in row.message


@pytest.mark.parametrize("accepts", ['accepts = ["2026.1"]\n', ""])
def test_a_listed_release_and_one_without_a_stamp_are_graded(accepts, hand_in, toy, tmp_path, monkeypatch):
    data = hand_in[".ipynb"]
    one = Result("test_x", "a test", "q1", 1.0, False, True)
    monkeypatch.setattr("autograder.grade.run_tests", lambda *a, **k: [one])
    if not accepts:
        data = json.dumps({**json.loads(data), "metadata": {}}).encode()
    row = graded(toy, tmp_path, data, ".ipynb", accepts)
    assert (row.status, row.message, row.score) == ("graded", "", 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.mlsys-lab]\nrelease = 2026.1\n", r"release is 2026\.1: write it as text, in quotes"),
        ('[tool.mlsys-lab]\nrelease = "autumn"\n', r"release is 'autumn': write numbers, as in '2026\.1'"),
        ("[tool", "is not valid TOML"),
    ],
)
def test_a_release_that_is_no_number_is_refused(text, message, tmp_path):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        configured(tmp_path)


def test_a_list_of_accepted_releases_must_be_one(toy, tmp_path):
    folder = instructors(toy, tmp_path / "course", "2027.1")
    text = (folder / "assignment.toml").read_text()
    (folder / "assignment.toml").write_text('accepts = "2026.1"\n' + text)
    with pytest.raises(UsageError, match=r"accepts is '2026\.1': write a list of releases"):
        load_assignment(folder)


def test_a_homework_outside_of_a_course_may_say_its_release(toy, tmp_path):
    folder = instructors(toy, tmp_path / "course", "2027.1")
    text = (folder / "assignment.toml").read_text()
    (folder / "assignment.toml").write_text('release = "2027.2"\n' + text)
    assert load_assignment(folder).release == "2027.2"
    files = student_files(find(folder.parents[1]))
    assert stamped(files[NOTEBOOK]) == "2027.2"
    assert b'release = "2027.2"' in files["assignments/toy/assignment.toml"]


def test_a_tenth_release_is_newer_than_a_ninth():
    assert order("2026.10") > order("2026.9") > order("2026") > order("")


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"{}", b'{"metadata": {"mlsys_lab": {"version": "a\\nb"}}}', b"# ---\n# x"]
)
def test_a_stamp_of_any_bytes_is_nothing_and_no_error(data):
    assert stamped(data) == stamped(data, ".py") == ""
