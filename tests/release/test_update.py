"""`update` from the command line: what it does to a tree, and what it refuses without touching it."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlsys_lab.cli
from autograder import merge_tree
from autograder.assignment import find
from autograder.own_work import make_submission
from autograder.tree import RECORD
from autograder.versions import release_of, stamped
from autograder.workspace import course_files, make_workspace, write_tree

NOTEBOOK = "assignments/toy/toy.ipynb"
ANSWER = "def double(x):\n    return x + x"


def instructors(toy: Path, folder: Path, version: str, **changes: str) -> Path:
    """An instructor's course of the toy homework, as of one release."""
    shutil.copytree(toy.parents[1], folder)
    (folder / "pyproject.toml").write_text(f'[tool.mlsys-lab]\nrelease = "{version}"\n' if version else "")
    source = folder / "assignments" / "toy" / "toy.py"
    for old, new in changes.items():
        source.write_text(source.read_text().replace(old, new))
    return folder


def released(toy: Path, tmp: Path, version: str, **changes: str) -> Path:
    """What students get of it."""
    course = instructors(toy, tmp / f"instructor {version}", version, **changes)
    files = course_files(find(course)) | {"README.md": f"Release {version}\n".encode()}
    write_tree(files, tmp / f"release {version}", kind="release")
    return tmp / f"release {version}"


@pytest.fixture
def home(toy, tmp_path, monkeypatch) -> Path:
    """A student's course folder with a workspace, release 2026.1; the newer one lies beside it."""
    shutil.copytree(released(toy, tmp_path, "2026.1"), tmp_path / "home")
    make_workspace(tmp_path / "home", tmp_path / "home" / "workspace")
    released(toy, tmp_path, "2026.2", mean="average")
    monkeypatch.delenv("MLSYS_LAB_COURSE", raising=False)
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def work(tree: Path) -> bytes:
    """Answer a question and add a cell; the notebook's bytes."""
    path = tree / NOTEBOOK
    content = json.loads(path.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if "".join(cell["source"]).startswith("def double"):
            cell["source"] = ANSWER
    own = {
        "cell_type": "code",
        "id": "a1",
        "metadata": {},
        "source": "my = 1",
        "outputs": [],
        "execution_count": 1,
    }
    content["cells"].insert(2, own)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path.read_bytes()


def sources(path: Path) -> list[str]:
    return ["".join(c["source"]) for c in json.loads(path.read_bytes())["cells"]]


def contents(tree: Path) -> dict[str, bytes]:
    return {p.relative_to(tree).as_posix(): p.read_bytes() for p in tree.rglob("*") if p.is_file()}


@pytest.fixture
def command(monkeypatch, capsys) -> Callable[..., tuple[int, str]]:
    """Run `mlsys-lab` in this process: its exit code and all that it says."""

    def run(*arguments: str) -> tuple[int, str]:
        app: Any = mlsys_lab.cli.app
        monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))
        monkeypatch.setattr(sys, "argv", ["mlsys-lab", *arguments])
        with monkeypatch.context() as patch:
            patch.setattr(app, "registered_commands", list(app.registered_commands))
            with pytest.raises(SystemExit) as ended:
                mlsys_lab.cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return run


@pytest.mark.parametrize("form", ["folder", "zip", "zip of a folder"])
def test_a_newer_release_comes_in_and_the_work_stays(form, home, command):
    former = work(home / "workspace")
    newer = home.parent / "release 2026.2"
    if form != "folder":
        where = newer if form == "zip" else newer.parent
        inside = "." if form == "zip" else newer.name
        newer = Path(shutil.make_archive(str(home.parent / "newer"), "zip", where, inside))
    code, said = command("update", str(newer))
    assert code == 0
    assert "2026.1 -> 2026.2" in said
    assert "yours stay: 1 answer, 1 own cell" in said
    mine = home / "workspace" / NOTEBOOK
    assert ANSWER in sources(mine)
    assert "my = 1" in sources(mine)
    assert any(s.startswith("def average") for s in sources(mine))
    assert mine.with_name("toy.ipynb.2026.1.bak").read_bytes() == former
    assert (home / "README.md").read_text() == "Release 2026.2\n"
    assert release_of(home) == release_of(home / "workspace") == "2026.2"
    assert stamped(mine.read_bytes()) == stamped(mine.with_suffix(".py").read_bytes(), ".py") == "2026.2"
    before = contents(home)
    code, said = command("update", str(newer))
    assert (code, said.count("nothing to change, it is of release 2026.2")) == (0, 2)
    assert contents(home) == before
    assert make_workspace(home, home / "workspace").lines() == [], "opening has nothing to lay aside"


def test_a_release_unpacked_over_the_course_reaches_the_workspace(home, command):
    work(home / "workspace")
    shutil.copytree(home.parent / "release 2026.2", home, dirs_exist_ok=True)
    code, said = command("update")
    assert (code, said.count("2026.1 -> 2026.2")) == (0, 1)
    assert {ANSWER, "my = 1"} <= set(sources(home / "workspace" / NOTEBOOK))


def test_work_in_the_py_alone_counts_and_both_former_files_are_kept(home, command):
    text = home / "workspace" / NOTEBOOK.replace(".ipynb", ".py")
    text.write_text(text.read_text() + "\n# %%\nin_the_py = 1\n")
    former = text.read_bytes()
    code, said = command("update", str(home.parent / "release 2026.2"))
    assert code == 0
    assert "your work is taken from its .py" in said
    assert sources(text.with_suffix(".ipynb"))[-1] == "in_the_py = 1"
    assert "in_the_py = 1" in text.read_text()
    assert text.with_name("toy.py.2026.1.bak").read_bytes() == former


def test_what_the_release_has_not_stays_and_a_backup_never_takes_a_place(home, command):
    work(home / "workspace")
    (home / "workspace" / "notes.txt").write_text("mine")
    (home / "README.md").write_text("mine too")
    taken = home / "workspace" / (NOTEBOOK + ".2026.1.bak")
    taken.write_text("an earlier one")
    code, said = command("update", str(home.parent / "release 2026.2"))
    assert code == 0
    assert "README.md: replaced, yours is README.md.2026.1.bak" in said
    assert (home / "README.md.2026.1.bak").read_text() == "mine too"
    assert (home / "workspace" / "notes.txt").read_text() == "mine"
    assert taken.read_text() == "an earlier one"
    assert "my = 1" in sources(taken.with_name("toy.ipynb.2026.1.bak-2"))


def test_a_reading_that_was_filled_in_stays_and_another_is_renewed(home, command):
    newer = home.parent / "release 2026.2"
    for tree, text in ((home, "One."), (newer, "Two.")):
        record = json.loads((tree / RECORD).read_text())
        for week in ("assignments/reading/week01.md", "assignments/reading/week02.md"):
            (tree / week).parent.mkdir(exist_ok=True)
            (tree / week).write_text(text)
            record["files"][week] = hashlib.sha256(text.encode()).hexdigest()
        (tree / RECORD).write_text(json.dumps(record))
    make_workspace(home, home / "workspace")
    first, second = (home / "workspace" / "assignments" / "reading" / f"week0{n}.md" for n in (1, 2))
    first.write_text("One. My answer.")
    code, said = command("update", str(newer))
    assert code == 0
    assert f"{first}: stays as you filled it in; the release's text is new" in said
    assert (first.read_text(), second.read_text()) == ("One. My answer.", "Two.")
    _, said = command("update", str(newer))
    assert "stays as you" not in said
    assert make_workspace(home, home / "workspace").lines() == []


def test_a_change_to_the_courses_own_cell_is_said_and_is_in_the_backup(home, command):
    path = home / "workspace" / NOTEBOOK
    path.write_text(path.read_text().replace("the end", "my end"))
    _, said = command("update", str(home.parent / "release 2026.2"))
    assert 'it is only in the backup now: `print("the end")`' in said
    assert "my end" in path.with_name("toy.ipynb.2026.1.bak").read_text()


def no_release(home: Path) -> str:
    (home.parent / "empty").mkdir()
    return str(home.parent / "empty")


def missing(home: Path) -> str:
    return "../nowhere.zip"


def no_zip(home: Path) -> str:
    (home.parent / "newer.zip").write_bytes(b"PK of another kind")
    return "../newer.zip"


def foreign_zip(home: Path) -> str:
    with zipfile.ZipFile(home.parent / "photos.zip", "w") as archive:
        archive.writestr("photos/a.jpg", b"1")
    return "../photos.zip"


def workspace(home: Path) -> str:
    shutil.copytree(home / "workspace", home.parent / "theirs")
    return "../theirs"


def not_whole(home: Path) -> str:
    (home.parent / "release 2026.2" / NOTEBOOK).unlink()
    return "../release 2026.2"


def changed_release(home: Path) -> str:
    work(home.parent / "release 2026.2")
    return "../release 2026.2"


def leads_out(home: Path) -> str:
    record = home.parent / "release 2026.2" / RECORD
    record.write_text(json.dumps({"kind": "release", "files": {"../../x": ""}}))
    return "../release 2026.2"


def older(home: Path) -> str:
    for tree in (home, home / "workspace"):
        (tree / "VERSION").write_text("2026.10\n")
    return "../release 2026.2"


def no_version(home: Path) -> str:
    tree = home.parent / "release 2026.2"
    (tree / "VERSION").unlink()
    record = json.loads((tree / RECORD).read_text())
    del record["files"]["VERSION"]
    (tree / RECORD).write_text(json.dumps(record))
    return "../release 2026.2"


def broken_notebook(home: Path) -> str:
    (home / "workspace" / NOTEBOOK).write_text("{")
    return "../release 2026.2"


def invalid_notebook(home: Path) -> str:
    content = json.loads(work(home / "workspace"))
    content["cells"][2]["outputs"] = [{"output_type": "unheard of"}]
    (home / "workspace" / NOTEBOOK).write_text(json.dumps(content))
    return "../release 2026.2"


def read_only(home: Path) -> str:
    (home / "workspace" / NOTEBOOK).chmod(0o444)
    return "../release 2026.2"


def no_backup(home: Path) -> str:
    (home / "workspace" / NOTEBOOK).parent.chmod(0o555)
    return "../release 2026.2"


def damaged_record(home: Path) -> str:
    (home / "workspace" / RECORD).write_text("{")
    return "../release 2026.2"


WRONG = [
    (no_release, r"empty is no release of the course: name what `mlsys-lab release` made"),
    (missing, r"there is no \.\./nowhere\.zip: name the newer release's folder or zip"),
    (no_zip, r"newer\.zip cannot be read as a zip: .*; get it again"),
    (foreign_zip, r"photos\.zip is no release of the course"),
    (workspace, r"theirs is a workspace: name what"),
    (not_whole, r"release 2026\.2 is not whole: assignments/toy/toy\.ipynb is missing; get it again"),
    (changed_release, r"release 2026\.2 is not as it was released: assignments/toy/toy\.ipynb was changed"),
    (leads_out, r'release 2026\.2 is damaged: its record names "\.\./\.\./x"; get it again'),
    (older, r"the release is 2026\.2, and .*home is of 2026\.10: name a newer one\. Nothing was changed"),
    (no_version, r"the release is older, without a VERSION, and .*home is of 2026\.1"),
    (broken_notebook, r"toy\.ipynb: the file is not valid JSON: .*; mend it, or move it away"),
    (invalid_notebook, r"toy\.ipynb: no valid notebook \(.*\); save it again in JupyterLab"),
    (read_only, r"toy\.ipynb is read-only: make it writable\. Nothing was changed"),
    (no_backup, r"no backup can be put beside .*toy\.ipynb: its folder is read-only"),
    (damaged_record, r"\.mlsys-lab\.json is not ours, or damaged"),
]


@pytest.mark.parametrize(("act", "message"), WRONG, ids=lambda c: getattr(c, "__name__", None))
def test_a_wrong_update_is_one_line_and_changes_nothing(act, message, home, command, request):
    work(home / "workspace")
    argument = act(home)
    folder = (home / "workspace" / NOTEBOOK).parent
    request.addfinalizer(lambda: folder.chmod(0o755))
    before = contents(home)
    code, said = command("update", argument)
    assert code == 2
    assert re.search(message, said), said
    assert said.startswith("mlsys-lab: ")
    assert said.count("\n") == 1
    assert contents(home) == before


def test_outside_of_every_course_and_without_a_workspace_it_says_so(home, command, monkeypatch):
    shutil.rmtree(home / "workspace")
    code, said = command("update")
    assert (code, "there is no workspace/ here to update: name the newer release" in said) == (2, True)
    monkeypatch.chdir(home.parent)
    code, said = command("update", "release 2026.2")
    assert (code, "no tree of the course here" in said) == (2, True)


@pytest.mark.parametrize("at", [0, 2, 5, 8])
@pytest.mark.parametrize("act", ["write_bytes", "copymode", "replace"])
def test_a_disk_that_fills_up_at_any_moment_leaves_all_as_it_was(act, at, home, command, monkeypatch):
    work(home / "workspace")
    where: Any = {"write_bytes": Path, "copymode": merge_tree.shutil, "replace": merge_tree.os}[act]
    before, calls, real = contents(home), [0], getattr(where, act)

    def full(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == at + 1:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(where, act, full)
    code, said = command("update", "../release 2026.2")
    assert (code, "No space left on device. Nothing was changed" in said) == (2, True)
    assert contents(home) == before


def test_a_files_permissions_stay_as_the_student_set_them(home, command):
    work(home / "workspace")
    mine = home / "workspace" / NOTEBOOK
    mine.chmod(0o600)
    assert command("update", "../release 2026.2")[0] == 0
    assert stat.S_IMODE(mine.stat().st_mode) == 0o600


def test_submit_warns_of_a_newer_release_that_lies_above_the_workspace(home):
    work(home / "workspace")
    assert not [line for line in make_submission("toy", home / "out") if "is of release" in line]
    shutil.copytree(home.parent / "release 2026.2", home, dirs_exist_ok=True)
    said = list(make_submission("toy", home / "out"))
    assert "warning: the notebook is of release 2026.1, the newest here is 2026.2: run" in said
