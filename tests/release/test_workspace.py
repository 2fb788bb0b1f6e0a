"""Work is never overwritten; what nobody touched is renewed; one finds the course from anywhere."""

from __future__ import annotations

import os
import time
from pathlib import Path

import jupytext
import nbformat
import pytest

from autograder import tree
from autograder.assignment import UsageError
from autograder.jupyter import prepare, settle_pairs, workspace_for
from autograder.tree import RECORD, course_root
from autograder.workspace import make_workspace, write_tree

ROOT = Path(__file__).resolve().parents[2]
OLD = {"labs/a.py": b"1\n", "labs/a.ipynb": b"{1}", "labs/t.py": b"t\n"}
NEW = {"labs/a.py": b"2\n", "labs/a.ipynb": b"{2}", "labs/t.py": b"u\n"}


def test_untouched_files_are_renewed_and_a_second_time_nothing_happens(tmp_path):
    assert write_tree(OLD, tmp_path, kind="workspace").created == ["labs/a.py", "labs/a.ipynb", "labs/t.py"]
    assert sorted(write_tree(NEW, tmp_path, kind="workspace").updated) == sorted(OLD)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.json")}
    report = write_tree(NEW, tmp_path, kind="workspace")
    assert (report.created, report.updated, report.kept, report.lines()) == ([], [], {}, [])
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.parametrize("touched", ["labs/a.py", "labs/a.ipynb"])
def test_a_changed_file_keeps_itself_and_its_twin_and_the_new_version_lies_aside(tmp_path, touched):
    write_tree(OLD, tmp_path, kind="workspace")
    (tmp_path / touched).write_bytes(b"mine")
    report = write_tree(NEW, tmp_path, kind="workspace")
    assert (tmp_path / touched).read_bytes() == b"mine"
    assert sorted(report.kept) == ["labs/a.ipynb", "labs/a.py"]
    assert report.updated == ["labs/t.py"]
    assert (tmp_path / "new-version" / "labs" / "a.py").read_bytes() == b"2\n"
    assert any("labs/a.py: kept as you changed it" in line for line in report.lines())
    assert write_tree(NEW, tmp_path, kind="workspace").lines() == []
    assert (tmp_path / touched).read_bytes() == b"mine"


def test_a_file_that_was_there_before_is_somebodys_work(tmp_path):
    (tmp_path / "labs").mkdir()
    (tmp_path / "labs" / "t.py").write_bytes(b"mine")
    report = write_tree(OLD, tmp_path, kind="workspace")
    assert (tmp_path / "labs" / "t.py").read_bytes() == b"mine"
    assert list(report.kept) == ["labs/t.py"]


def test_work_that_equals_the_new_version_needs_no_copy(tmp_path):
    write_tree(OLD, tmp_path, kind="workspace")
    (tmp_path / "labs" / "t.py").write_bytes(b"u\n")
    assert write_tree(NEW, tmp_path, kind="workspace").kept == {}
    assert not (tmp_path / "new-version").exists()


def test_work_in_a_new_version_is_kept_too(tmp_path):
    write_tree(OLD, tmp_path, kind="workspace")
    (tmp_path / "labs" / "t.py").write_bytes(b"mine")
    write_tree(NEW, tmp_path, kind="workspace")
    (tmp_path / "new-version" / "labs" / "t.py").write_bytes(b"mine too")
    report = write_tree(NEW | {"labs/t.py": b"v\n"}, tmp_path, kind="workspace")
    assert report.kept == {"labs/t.py": "new-version-2/labs/t.py"}
    assert (tmp_path / "new-version" / "labs" / "t.py").read_bytes() == b"mine too"
    assert (tmp_path / "new-version-2" / "labs" / "t.py").read_bytes() == b"v\n"
    report = write_tree(NEW | {"labs/t.py": b"w\n"}, tmp_path, kind="workspace")
    assert report.kept == {"labs/t.py": "new-version-2/labs/t.py"}, "nobody worked in the second"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(UsageError, match=r"cannot write to .*taken: .* name another folder"):
        write_tree(OLD, tmp_path / "taken", kind="workspace")


@pytest.mark.parametrize("record", ["{", "5", "[1]", "null", '{"files": [1]}'])
def test_a_broken_record_stops_before_anything_is_written(record, tmp_path):
    write_tree(OLD, tmp_path, kind="workspace")
    (tmp_path / RECORD).write_text(record)
    with pytest.raises(UsageError, match="is not ours, or damaged: restore it, or move it away"):
        write_tree(NEW, tmp_path, kind="workspace")
    assert (tmp_path / "labs" / "t.py").read_bytes() == b"t\n"


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_tree(OLD, tmp_path, kind="workspace")

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as half_written:
            half_written.write(data[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UsageError, match="No space"):
        write_tree(NEW, tmp_path, kind="workspace")
    assert {path: (tmp_path / path).read_bytes() for path in OLD} == OLD


def test_renewing_one_of_a_pair_leaves_both_of_one_age(tmp_path):
    # Jupytext refuses a pair whose .py is older than its notebook by more than a second.
    write_tree(OLD, tmp_path, kind="workspace")
    twins = [tmp_path / "labs" / name for name in ("a.py", "a.ipynb")]
    for path in twins:
        os.utime(path, (1e9, 1e9))
    write_tree(OLD | {"labs/a.ipynb": b"{2}"}, tmp_path, kind="workspace")
    first, second = (path.stat().st_mtime for path in twins)
    assert abs(first - second) < 1


def test_the_workspace_holds_the_student_version_with_its_twins(tmp_path):
    make_workspace(ROOT, tmp_path)
    for path in [*tmp_path.rglob("*.py"), *tmp_path.rglob("*.ipynb")]:
        assert "BEGIN SOLUTION" not in path.read_text(), path
    pairs = list(tmp_path.rglob("*.ipynb"))
    assert pairs
    for path in pairs:
        text = jupytext.read(path.with_suffix(".py"), fmt="py:percent")
        assert [c.source for c in text.cells] == [c.source for c in nbformat.read(path, as_version=4).cells]
        assert abs(path.stat().st_mtime - path.with_suffix(".py").stat().st_mtime) < 1
    assert 'formats = "ipynb,py:percent"' in (tmp_path / "jupytext.toml").read_text()


def test_the_course_is_found_from_below_and_by_name(tmp_path, monkeypatch):
    monkeypatch.delenv("MLSYS_LAB_COURSE", raising=False)
    deep = tmp_path / "labs" / "checks"
    deep.mkdir(parents=True)
    assert course_root(deep) == tmp_path.resolve()
    monkeypatch.setenv("MLSYS_LAB_COURSE", str(ROOT))
    assert course_root(deep) == ROOT
    monkeypatch.setenv("MLSYS_LAB_COURSE", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="holds neither"):
        course_root(deep)


def test_without_any_course_the_error_names_the_fix(tmp_path, monkeypatch):
    monkeypatch.delenv("MLSYS_LAB_COURSE", raising=False)
    monkeypatch.setattr(tree, "__file__", str(tmp_path / "autograder" / "tree.py"))
    with pytest.raises(UsageError, match="MLSYS_LAB_COURSE"):
        course_root(tmp_path)


def test_opening_inside_a_workspace_renews_that_one_from_its_course(tmp_path, monkeypatch):
    monkeypatch.delenv("MLSYS_LAB_COURSE", raising=False)
    (tmp_path / "labs" / "checks").mkdir(parents=True)
    assert workspace_for(tmp_path) == (tmp_path, tmp_path / "workspace")
    write_tree(OLD | {"labs/checks/test_00.py": b""}, tmp_path / "workspace", kind="workspace")
    assert workspace_for(tmp_path / "workspace" / "labs") == (tmp_path, tmp_path / "workspace")


def test_a_notebook_saved_without_its_twin_brings_the_twin_along_and_keeps_the_old_one(tmp_path):
    make_workspace(ROOT, tmp_path)
    notebook = tmp_path / "labs" / "00_trust.ipynb"
    content = nbformat.read(notebook, as_version=4)
    content.cells.append(nbformat.v4.new_code_cell("added = 'in another editor'"))
    nbformat.write(content, notebook)
    later = time.time() + 100
    os.utime(notebook, (later, later))
    twin = notebook.with_suffix(".py")
    old = twin.read_text()
    ((written, kept),) = settle_pairs(tmp_path)
    assert written == twin
    assert "in another editor" in twin.read_text()
    assert kept.parent == tmp_path / "backup", "where its owner sees it"
    assert kept.read_text() == old
    os.utime(notebook, (later + 50, later + 50))
    twin.write_text(old)
    os.utime(twin, (later, later))
    said = prepare(ROOT, tmp_path).lines()
    assert [line for line in said if line.startswith("00_trust.py was older than its notebook")]
    twin.write_text(twin.read_text() + "\n# newer\n")
    os.utime(twin, (later + 100, later + 100))
    assert settle_pairs(tmp_path) == []
    assert "# newer" in twin.read_text()
