"""Other people's machines, as far as this one can play them: no sandbox, not root, odd paths."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; sys.argv[0] = 'mlsys-lab'; from mlsys_lab.cli import main; main()"
RIGHT = "def double(x):\n    return x + x\ndef mean(x):\n    return x.sum() / x.size\n"
pytestmark = [pytest.mark.poor, pytest.mark.slow]


def grade(folder: Path, toy: Path, *options: str, before: tuple[str, ...] = (), **environ: str):
    (folder / "ada_toy.py").write_text(RIGHT)
    command = [*before, sys.executable, "-c", MAIN, "grade", str(toy), "ada_toy.py", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    summary = folder / "grades" / "toy" / "summary.json"
    return done, json.loads(summary.read_text()) if summary.is_file() else None


def scores(summary) -> list[float]:
    return [row["score"] for row in summary["submissions"]]


def test_spawned_processes_grade_as_forked_ones(sandboxed, toy, tmp_path):
    done, summary = grade(tmp_path, toy, MLSYS_LAB_START_METHOD="spawn")
    assert done.returncode == 0, done.stderr
    assert scores(summary) == [20]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX system")
def test_without_bubblewrap_the_work_of_others_is_graded_only_at_a_named_or_a_held_level(toy, tmp_path):
    done, summary = grade(tmp_path, toy, "--no-nbval", PATH="/nowhere")
    if done.returncode == 0:  # root with Landlock: an own uid holds
        assert summary["sandbox"] == "uid"
        assert "Sandbox level: uid" in done.stderr
    else:
        assert done.returncode == 2
        assert "--sandbox none" in done.stderr
    done, summary = grade(
        tmp_path, toy, "--no-nbval", "--sandbox", "none", "--out", "grades/toy", PATH="/nowhere"
    )
    assert done.returncode == 0, done.stderr
    assert (summary["sandbox"], scores(summary)) == ("none", [18])
    assert "Sandbox level: none" in done.stderr
    assert "Graded without a sandbox" in (tmp_path / "grades" / "toy" / "ada_toy" / "report.html").read_text()


def test_not_root_grades_at_the_same_level(sandboxed, toy, tmp_path):
    user = ("bwrap", "--dev-bind", "/", "/", "--unshare-user", "--uid", "1234", "--gid", "1234", "--")
    done, summary = grade(tmp_path, toy, before=user)
    assert done.returncode == 0, done.stderr
    assert (summary["sandbox"], scores(summary)) == ("namespaces", [20])


def test_a_path_with_spaces_and_umlauts_holds_the_whole_project(sandboxed, toy, tmp_path):
    place = tmp_path / "Kurs für mich"
    place.mkdir()
    for name in ("autograder", "mlsys_lab"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(toy, place / "Übung 1")
    done, summary = grade(place, place / "Übung 1", PYTHONPATH=str(place))
    assert done.returncode == 0, done.stderr
    assert scores(summary) == [20]
    assert str(place / "autograder") not in done.stdout


def test_an_environment_in_another_language_and_without_utf8_says_the_same(sandboxed, toy, tmp_path):
    done, summary = grade(
        tmp_path, toy, "--no-nbval", LANG="C", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii"
    )
    assert done.returncode == 0, done.stderr
    assert scores(summary) == [18]
