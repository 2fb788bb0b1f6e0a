"""What a student sees of their own work before handing it in: check by name or file, and submit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from autograder.assignment import UsageError, find
from autograder.classroom import Plan, grade_class, opened_sandboxes
from autograder.grade import grade
from autograder.jupyter import prepare
from autograder.own_work import check_notebook, make_submission
from autograder.submission import collect
from autograder.workspace import make_workspace, student_files, write_tree

REPOSITORY = Path(__file__).resolve().parents[2]
SOLVED = {"double": "    return x + x", "mean": "    return x.sum() / x.size"}


@pytest.fixture
def home(toy, tmp_path, monkeypatch):
    """A student's folder: the released course, and a workspace made in it."""
    write_tree(student_files(find(toy.parents[1])), tmp_path, kind="release")
    make_workspace(tmp_path, tmp_path / "workspace")
    monkeypatch.delenv("MLSYS_LAB_COURSE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def solve(home: Path, **bodies: str) -> Path:
    """Write bodies of functions into the student's own notebook."""
    notebook = home / "workspace" / "assignments" / "toy" / "toy.ipynb"
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        text = "".join(cell["source"])
        for name, body in bodies.items():
            if text.startswith(f"def {name}("):
                cell["source"] = f"def {name}(x):\n{body}"
    notebook.write_text(json.dumps(content), encoding="utf-8")
    return notebook


def checked(what: str | None) -> tuple[bool, list[str]]:
    said: list[str] = []
    return check_notebook(Path(what) if what else None, said.append), said


def test_a_homework_is_checked_by_its_name_in_the_workspace(home):
    rest = "; hidden tests and the clean start decide on 9 more"
    assert checked("toy") == (
        False,
        ["q1: not solved yet", "q2: not solved yet", f"0 of 11 public points{rest}"],
    )
    solve(home, **SOLVED)
    assert checked("toy") == (
        True,
        [
            "q1: correct so far (1 public test; hidden ones decide on 3 points)",
            "q2: correct so far (1 public test; hidden ones decide on 4 points)",
            f"11 of 11 public points{rest}",
        ],
    )


def test_the_reference_under_the_learners_name_earns_nothing(home):
    notebook = solve(home, double="    return x + x")
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert checked("toy")[1][0].startswith("q1: correct")
    late = "def other(x):\n    return x + x\nother.__reference__ = True\ndouble = other"
    content["cells"].append({**content["cells"][-1], "cell_type": "code", "id": "late", "source": late,
                             "outputs": [], "execution_count": None, "metadata": {}})  # fmt: skip
    notebook.write_text(json.dumps(content), encoding="utf-8")
    passed, said = checked("toy")
    assert not passed
    assert "`double` is not defined in the notebook" in said[0]


def test_a_wrong_value_is_shown_with_what_was_expected(home):
    solve(home, double="    return x * 3")
    ok, said = checked("toy")
    assert not ok
    at = next(i for i, line in enumerate(said) if line.startswith("q1: 0 of 1 tests pass"))
    shown = dict(line.strip().split(":", 1) for line in said[at + 1 : at + 4])
    first = {word: float(re.search(r"-?[\d.]+", text)[0]) for word, text in shown.items()}
    # Three times x where twice x was asked for.
    assert set(first) == {"input", "expected", "yours"}
    assert first["expected"] == pytest.approx(2 * first["input"], abs=1e-3)
    assert first["yours"] == pytest.approx(3 * first["input"], abs=1e-3)
    assert said[-1].startswith("0 of 11 public points")


def test_work_in_a_newer_py_is_not_passed_over_in_silence(home):
    twin = home / "workspace" / "assignments" / "toy" / "toy.py"
    twin.write_text(twin.read_text().replace("raise NotImplementedError", "return x + x", 1))
    soon = time.time() + 60
    os.utime(twin, (soon, soon))
    reads = "`mlsys-lab check workspace/assignments/toy/toy.py` reads that one"
    line = f"toy.ipynb is read; toy.py differs from it: {reads}"
    assert line in checked("toy")[1]
    said = list(make_submission("toy", home / "out"))
    assert any(line.startswith("warning: toy.py and toy.ipynb differ") for line in said)


def test_the_copy_that_came_with_the_course_is_not_mistaken_for_ones_own(home):
    solve(home, **SOLVED)
    ok, said = checked("assignments/toy/toy.ipynb")
    assert not ok
    assert said[0].startswith("this is the copy that came with the course; yours is ")
    assert said[0].endswith("workspace/assignments/toy/toy.ipynb")


def test_the_notebook_at_hand_is_checked_without_a_name(home, monkeypatch):
    solve(home, **SOLVED)
    monkeypatch.chdir(home / "workspace" / "assignments" / "toy")
    assert checked(None)[0]


def test_a_function_behind_a_syntax_error_is_said_to_be_missing_from_the_notebook(home):
    solve(home, double="    return (")
    ok, said = checked("toy")
    assert not ok
    assert "SyntaxError" in said[0]
    assert "NameError: `double` is not defined in the notebook" in said[1]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nothing", "there is no file nothing"),
        ("gone.ipynb", "there is no file gone.ipynb"),
        ("other.ipynb", "no lab or homework is called other"),
        (None, "name the notebook to check"),
    ],
)
def test_a_wrong_name_is_one_line(home, what, message):
    (home / "other.ipynb").write_text("{}")
    with pytest.raises(UsageError, match=message):
        checked(what)


def test_submit_warns_of_what_fails_and_packs_all_the_same(home):
    notebook = solve(home, double="    return x * 3", mean="    raise ValueError('no')")
    content = json.loads(notebook.read_text(encoding="utf-8"))
    content["cells"][-1]["source"] = "1 / 0"
    notebook.write_text(json.dumps(content), encoding="utf-8")
    said = list(make_submission("toy", home / "out"))
    assert any("raises ZeroDivisionError" in line for line in said)
    assert not any(line.startswith("warning: toy.py") for line in said), "the .py is the older one"
    assert any(line.startswith("warning: q1: 0 of 1 tests pass") for line in said)
    assert any("ValueError: no" in line for line in said)
    (archive,) = (home / "out").iterdir()
    assert sorted(zipfile.ZipFile(archive).namelist()) == ["toy.ipynb", "toy.py"]


def test_what_submit_packs_is_graded(home, toy, sandboxed):
    solve(home, **SOLVED)
    said = list(make_submission("toy", home / "out"))
    assert [line for line in said if line.startswith("11 of 11 public points")]
    assignment = find(toy.parents[1])["toy"]
    (submission,) = collect([home / "out"], assignment)
    with opened_sandboxes(assignment, sandboxed, REPOSITORY / "mlsys_lab") as (workers, _):
        row = grade(submission, assignment, workers=workers, kernels=None, seed=0, stamp={})
    assert (row.status, row.score, row.message) == ("graded", 18.0, "")


def test_a_disk_that_is_full_leaves_the_archive_of_before(home, monkeypatch):
    solve(home, **SOLVED)
    list(make_submission("toy", home / "out"))
    (archive,) = (home / "out").iterdir()
    before = archive.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(UsageError, match=r"cannot write .*: No space left on device. Name another"):
            list(make_submission("toy", home / "out"))
    assert [p.read_bytes() for p in (home / "out").iterdir()] == [before]


@pytest.mark.parametrize("metadata", [[], None, {"mlsys_lab": 5}])
def test_metadata_of_another_form_are_no_reason_to_stop(home, metadata):
    notebook = solve(home, **SOLVED)
    content = json.loads(notebook.read_text(encoding="utf-8")) | {"metadata": metadata}
    notebook.write_text(json.dumps(content), encoding="utf-8")
    assert any(line.startswith("made ") for line in make_submission("toy", home / "out"))


def test_a_notebook_that_was_deleted_is_made_anew_from_its_py(home):
    text = home / "workspace" / "assignments" / "toy" / "toy.py"
    text.write_text(text.read_text(encoding="utf-8") + "\n# %%\nmine = 1\n", encoding="utf-8")
    text.with_suffix(".ipynb").unlink()
    report = prepare(home, home / "workspace")
    assert any("toy.ipynb was missing and is made anew from your toy.py" in line for line in report.lines())
    assert "mine = 1" in text.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert "mine = 1" in text.read_text(encoding="utf-8")


def test_grades_written_into_the_class_are_no_student(home, toy, sandboxed):
    solve(home, **SOLVED)
    list(make_submission("toy", home / "out"))
    assignment = find(toy.parents[1])["toy"]
    grade_class(
        collect([home / "out"], assignment), assignment, Plan(sandboxed, REPOSITORY / "mlsys_lab"),
        home / "out" / "grades",
    )  # fmt: skip
    assert len(collect([home / "out"], assignment)) == 1


def test_an_unknown_homework_and_a_lab_are_not_handed_in(home):
    with pytest.raises(UsageError, match="there is no homework 'hw9' here; there are: toy"):
        list(make_submission("hw9", home / "out"))
    source = (home / "assignments" / "toy" / "toy.py").read_text(encoding="utf-8")
    (home / "labs").mkdir()
    (home / "labs" / "03_x.py").write_text(source, encoding="utf-8")
    with pytest.raises(UsageError, match="lab03 is a lab"):
        list(make_submission("lab03", home / "out"))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("test", "the tests are in the instructors' repository"),
        ("verify", "this is the students' repository"),
    ],
)
def test_instructors_commands_say_so_in_the_students_tree(home, command, message):
    """`test` stops before anything is set up, `verify` before anything is run."""
    if command == "test":
        (home / "lab.py").write_bytes((REPOSITORY / "lab.py").read_bytes())
        start = [sys.executable, str(home / "lab.py"), "test"]
    else:
        code = (
            "import sys; sys.argv = ['mlsys-lab', 'verify', 'toy']; from mlsys_lab import cli; "
            f"from pathlib import Path; cli._root = lambda: Path({str(home)!r}); cli.main()"
        )
        start = [sys.executable, "-c", code]
    done = subprocess.run(start, cwd=home, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
