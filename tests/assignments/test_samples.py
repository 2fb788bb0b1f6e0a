"""The bundled class where the clean start tells: as Colab saves it, and as it was released.

`grade` without files runs it for all eight.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from autograder.assignment import load_assignment
from autograder.classroom import Plan, grade_class
from autograder.submission import collect

ROOT = Path(__file__).resolve().parents[2]
HW1 = ROOT / "assignments" / "hw1"


@pytest.mark.slow
def test_samples_score_with_their_clean_start_what_their_table_says(sandboxed, tmp_path):
    assignment = load_assignment(HW1)
    expected = tomllib.loads((HW1 / "samples" / "expected.toml").read_text(encoding="utf-8"))
    found = [s for s in collect([HW1 / "samples"], assignment) if s.student in ("cleo", "gus")]
    rows = grade_class(found, assignment, Plan(sandboxed, ROOT / "mlsys_lab", nbval=True, jobs=2), tmp_path)
    assert {r.name: r.score for r in rows} == {r.name: expected[r.name]["score"] for r in rows}
    assert len(rows) == 2
