"""The students' repository: complete, without a secret, the same when made again, and it works by itself."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from autograder import VERSION
from autograder.assignment import UsageError, find
from autograder.pair import SETUP
from autograder.publish import linked
from autograder.release import build_wheel, leaks, readme, release
from autograder.student import solution_lines
from autograder.workspace import course_files, notebook_path

ROOT = Path(__file__).resolve().parents[2]
ALL = find(ROOT)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("release") / "course"
    release(list(ALL.values()), out, ROOT)
    return out


@pytest.fixture(scope="module")
def empty_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the dependencies and nothing of ours."""
    home = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    for folder in site.getsitepackages():
        for entry in Path(folder).iterdir():
            # Nothing that leads to this repository or says that it is installed.
            if (
                "mlsys_lab" not in entry.name
                and entry.suffix != ".pth"
                and not (packages / entry.name).exists()
            ):
                (packages / entry.name).symlink_to(entry)
    return home / "bin" / "python"


def ask(python: Path, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MLSYS_LAB_COURSE")}
    environment |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "MPLBACKEND": "agg"}
    return subprocess.run(
        [str(python), "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_it_holds_what_a_student_needs(released):
    there = contents(released)
    wanted = ["README.md", "lab.py", "constraints.txt", "LICENSE", "LICENSE-text", "NOTICE", "jupytext.toml"]
    assert set(wanted) <= set(there)
    assert f"wheels/mlsys_lab_course-{VERSION}-py3-none-any.whl" in there
    for assignment in find(released).values():
        assert assignment.notebook.is_file()
        assert assignment.public
        assert not assignment.hidden
    assert set(find(released)) == set(ALL)


def test_it_holds_no_secret(released):
    assert leaks(contents(released), list(ALL.values())) == []


def test_neither_tree_nor_wheel_says_a_hidden_test_or_a_marker(released):
    """Searched for here without `leaks`: as a student with grep would."""
    wheel = zipfile.ZipFile(next((released / "wheels").glob("*.whl")))
    said = contents(released) | {n: wheel.read(n) for n in wheel.namelist() if "/course/" in n}
    hidden = {
        name
        for a in ALL.values()
        for path in a.hidden
        for name in re.findall(rb"^def (test_\w+)", path.read_bytes(), re.MULTILINE)
    } - {
        n
        for a in ALL.values()
        for p in a.public
        for n in re.findall(rb"^def (test_\w+)", p.read_bytes(), re.M)
    }
    assert len(hidden) > 20
    mutants = {p.name for a in ALL.values() if not a.is_lab for p in (a.folder / "mutants").glob("*.py")}
    for path, data in said.items():
        if not path.endswith(".whl"):
            assert not re.search(rb"(BEGIN|END) SOLUTION|### STARTER", data), path
            assert not set(re.findall(rb"\btest_\w+", data)) & hidden, path
            assert Path(path).name not in mutants


def test_it_says_which_release_it_is(released):
    release_said = (released / "VERSION").read_text().strip()
    assert release_said == ALL["lab00"].release
    assert f"Release {release_said}." in (released / "README.md").read_text()
    for assignment in find(released).values():
        notebook = json.loads(assignment.notebook.read_text(encoding="utf-8"))
        assert notebook["metadata"]["mlsys_lab"]["version"] == release_said


@pytest.mark.parametrize("name", ["notes.txt", ".mlsys-lab.json"])
def test_a_folder_that_is_not_empty_and_no_release_is_refused(name, tmp_path):
    (tmp_path / name).write_text('{"kind": "workspace"}')
    with pytest.raises(UsageError, match="is not empty and no release of ours: name a new folder with --out"):
        release([ALL["lab00"]], tmp_path, ROOT)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_links_to_colab_and_codespaces_follow_from_one_address_and_none_without(released):
    url = "https://github.com/example/course-2026.git"
    course = course_files({"lab00": ALL["lab00"]})
    files = linked(course, url, "x-1-py3-none-any.whl")
    notebook = json.loads(files["labs/00_trust.ipynb"])
    said = "".join(notebook["cells"][1]["source"])
    place = "example/course-2026"
    assert f"(https://colab.research.google.com/github/{place}/blob/main/labs/00_trust.ipynb)" in said
    assert f"(https://codespaces.new/{place})" in said
    assert said in files["labs/00_trust.py"].decode()
    (setup,) = ["".join(c["source"]) for c in notebook["cells"] if "setup" in c["metadata"].get("tags", [])]
    compile(setup, "setup", "exec")
    assert f'near = ["https://github.com/{place}/raw/main/wheels/x-1-py3-none-any.whl"]' in setup
    assert "colab-badge.svg" in readme([ALL["lab00"]], url=url)
    assert not [line for line in readme([ALL["lab00"]], url=url).splitlines() if re.search(r"\{\w+\}", line)]
    unlinked = (released / "README.md").read_bytes() + (released / "labs" / "00_trust.ipynb").read_bytes()
    assert not re.search(rb"colab\.research|codespaces", unlinked)
    with pytest.raises(UsageError, match=r"write https://github\.com/OWNER/NAME"):
        linked(course, "https://example.org/course", "x.whl")


def test_making_it_again_changes_nothing(released):
    before = contents(released)
    assert release(list(ALL.values()), released, ROOT) == [f"{released}: nothing has changed"]
    assert contents(released) == before


def test_what_a_student_changed_stays(tmp_path):
    release([ALL["lab00"]], tmp_path / "out", ROOT)
    mine = tmp_path / "out" / "labs" / "00_trust.py"
    mine.write_text("mine = 1\n")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    release([ALL["lab00"]], tmp_path / "out", ROOT)
    assert mine.read_text() == "mine = 1\n"
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_only_what_is_released_is_in_it_and_a_later_release_adds(tmp_path):
    others = [n for n in ALL if n != "lab00"]
    homework = next(n for n in others if not ALL[n].is_lab)
    release([ALL["lab00"]], tmp_path / "out", ROOT)
    wheel = next((tmp_path / "out" / "wheels").glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert "autograder/course/labs/00_trust.ipynb" in names
    assert not [n for n in names for other in others if f"course/assignments/{other}/" in n]
    assert list(find(tmp_path / "out")) == ["lab00"]
    release([ALL[homework]], tmp_path / "out", ROOT)
    assert list(find(tmp_path / "out")) == ["lab00", homework]
    release([ALL[n] for n in others], tmp_path / "out", ROOT)
    assert list(find(tmp_path / "out")) == list(ALL)
    names = zipfile.ZipFile(wheel).namelist()
    for assignment in ALL.values():
        assert f"autograder/course/{notebook_path(assignment)}" in names
        assert assignment.title in (tmp_path / "out" / "README.md").read_text()


def test_the_wheel_holds_the_library_and_the_students_course_alone(released):
    (path,) = (released / "wheels").glob("*.whl")
    wheel = zipfile.ZipFile(path)
    course = {
        n.removeprefix("autograder/course/"): wheel.read(n) for n in wheel.namelist() if "/course/" in n
    }
    assert course == course_files(ALL)
    tops = {n.split("/")[0] for n in wheel.namelist()}
    assert tops == {"mlsys_lab", "autograder", f"mlsys_lab_course-{VERSION}.dist-info"}


def test_equal_sources_give_an_equal_wheel_whatever_the_date(monkeypatch):
    course = {"labs/checks/test_00.py": b"x = 1\n"}
    first = build_wheel(course)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert build_wheel(course) == first


def planted(kind: str) -> dict[str, bytes]:
    lab = ALL["lab00"]
    line = max(solution_lines(lab.source), key=len)
    homework = next(a for a in ALL.values() if a.hidden)
    mutant = min((homework.folder / "mutants").glob("*.py"))
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("autograder/course/labs/notes.py", f"    {line}\n")
    cell = {"cell_type": "markdown", "metadata": {}, "source": ["Here:\n", f"{line}\n"]}
    return {
        "line": {"notes.md": f"text\n   {line}  \n".encode()},
        "line in a notebook": {"a.ipynb": json.dumps({"nbformat": 4, "cells": [cell]}).encode()},
        "line in a wheel": {"wheels/x.whl": wheel.getvalue()},
        "marker": {"a.py": b"def f():\n    ### BEGIN SOLUTION\n"},
        "folder": {"assignments/hw1/tests/hidden/test_x.py": b""},
        "hidden test": {"assignments/hw1/tests/public/test_h.py": homework.hidden[0].read_bytes()},
        "mutant": {"extra.py": mutant.read_bytes()},
        "reference": {"assignments/hw1/tests/reference_hw1.json": b"{}"},
        "solved source": {"labs/00_trust.py": lab.source.read_bytes()},
    }[kind]


KINDS = (
    "line",
    "line in a notebook",
    "line in a wheel",
    "marker",
    "folder",
    "hidden test",
    "mutant",
    "reference",
)


@pytest.mark.parametrize("kind", [*KINDS, "solved source"])
def test_a_planted_secret_is_found(kind):
    assert leaks(planted(kind), list(ALL.values()))


def test_a_release_into_the_instructors_repository_is_refused():
    with pytest.raises(UsageError, match="name another folder"):
        release([ALL["lab00"]], ROOT, ROOT)


@pytest.mark.poor
def test_the_setup_cell_installs_the_wheel_beside_the_notebook_and_runs_again(released, empty_python):
    if ask(empty_python, "import pip", released).returncode:
        pytest.skip("no pip among the dependencies")
    folder = released / "labs"
    without = ask(empty_python, "import autograder", folder)
    assert "No module named 'autograder'" in without.stderr
    alone = ask(empty_python, SETUP, empty_python.parents[1])
    assert alone.returncode == 1, "nothing is asked of an index by a name that anybody may register there"
    assert "copy the course's folder wheels/ beside this notebook" in alone.stderr
    for _ in range(2):
        done = ask(empty_python, SETUP + "\nimport autograder\nprint(autograder.__file__)", folder)
        assert done.returncode == 0, done.stderr
        line, place = done.stdout.splitlines()
        assert "Python" in line
        assert "CPU core" in line
        assert Path(place).is_relative_to(empty_python.parents[1])


@pytest.mark.poor
def test_the_wheel_alone_opens_and_checks_lab_00_in_any_folder(released, empty_python, tmp_path):
    (wheel,) = (released / "wheels").glob("*.whl")
    (packages,) = empty_python.parents[1].glob("lib/python*/site-packages")
    for name in ("autograder", "mlsys_lab"):
        shutil.rmtree(packages / name, ignore_errors=True)
    zipfile.ZipFile(wheel).extractall(packages)
    folder = tmp_path / "Ordner für Übungen"
    folder.mkdir()
    code = """
from pathlib import Path
from autograder.jupyter import prepare, workspace_for
root, workspace = workspace_for()
assert root.name == "course", root
prepare(root, workspace)
import os
os.chdir(workspace / "labs")
from autograder.check import check, skip
print(check("lab00.q1", lambda *given: []))
reference = skip("lab00.q1")
print(check("lab00.q1", lambda *given: reference(*given)))
"""
    done = ask(empty_python, code, folder)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert "False" in said
    assert "lab00.q1: correct, 2 tests, 3 points" in said
    assert (folder / "workspace" / "labs" / "00_trust.ipynb").is_file()
