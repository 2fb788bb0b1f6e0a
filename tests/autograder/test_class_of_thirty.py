"""A class from Canvas' archive to Canvas' gradebook, graded in the sandbox, with all that classes have."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.autograder.exports import CLASS, Student, canvas_export, canvas_members, zipped

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; sys.argv[0] = 'mlsys-lab'; from mlsys_lab.cli import main; main()"

pytestmark = pytest.mark.slow


def work(student: Student) -> bytes:
    """Right for odd numbers, half for even ones."""
    text = "def double(x):\n    return x + x\n"
    if student.number % 2:
        text += "def mean(x):\n    return x.sum() / x.size\n"
    cells = [
        {
            "cell_type": "code",
            "id": "c",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": "import numpy as np\n" + text,
        }
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def test_from_canvas_archive_to_canvas_gradebook(sandboxed, toy, tmp_path, command):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", MAIN, *arguments]
        environ = {
            "PYTHONPATH": str(ROOT),
            "PATH": "/usr/bin:/bin",
            "OMP_NUM_THREADS": "1",
            "LANG": "C.UTF-8",
        }
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

    late, gone = CLASS[4], CLASS[6]
    members = canvas_members(work, late=frozenset({late.number}))
    members = {name: data for name, data in members.items() if f"_{gone.canvas_id}_" not in name}
    members["mallorymal_666_1_toy.ipynb"] = work(CLASS[0])
    zipped(tmp_path / "submissions.zip", members)
    (tmp_path / "class.csv").write_bytes(canvas_export({"Toy (7)": {}}))
    (tmp_path / "course.toml").write_text("late = {per_day = 10, at_most = 50}\n")

    door = ["--from", "canvas", "--roster", "class.csv"]
    grade = ["grade", str(toy), "submissions.zip", *door, "--no-nbval", "--jobs", "2"]
    done = run(*grade)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert "Roster: 1 submissions not in it, 1 students without a submission" in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if "no submission" in line]
    assert "0 / 18" in row

    rows = json.loads((tmp_path / "grades" / "toy" / "summary.json").read_text())["submissions"]
    by_id = {r["ids"][0]: r for r in rows}
    assert len(rows) == len(by_id) == 31
    earned = {s.canvas_id: 18 if s.number % 2 else 9 for s in CLASS if s is not gone}
    assert {i: r["score"] for i, r in by_id.items()} == {**earned, gone.canvas_id: 0, "666": 18}
    assert (by_id[gone.canvas_id]["status"], by_id[gone.canvas_id]["message"]) == ("error", "no submission")
    assert (by_id["666"]["roster"], by_id["666"]["status"]) == ("not in the roster", "graded")
    assert (by_id[late.canvas_id]["deducted"], by_id[late.canvas_id]["final"]) == (1.8, 16.2)

    members[f"{gone.squeezed}_LATE_{gone.canvas_id}_9999_toy.ipynb"] = work(gone)  # and then there was one
    zipped(tmp_path / "submissions.zip", members)
    again = run(*grade)
    assert again.stderr.count("graded") == 1, "what was graded is not graded again"
    assert "no submission" not in again.stdout
    assert not list((tmp_path / "grades" / "toy").glob("earlier-*")), "it is the same class"
    earned[gone.canvas_id] = 18

    target = ["--assignment", "Toy (7)", "--grades", "grades/toy", "--out", "in.csv"]
    told = command("gradebook", "canvas", "class.csv", *target)
    assert (told.code, told.err) == (0, "")
    assert "graded here and not in Canvas' file: mallorymal" in told.out
    with (tmp_path / "in.csv").open(encoding="utf-8-sig", newline="") as stream:
        cells = {line["ID"]: line["Toy (7)"] for line in csv.DictReader(stream) if line["SIS User ID"]}
    late_ones = {gone.canvas_id: "16.2", late.canvas_id: "16.2"}
    assert cells == {i: f"{score}" for i, score in earned.items()} | late_ones
