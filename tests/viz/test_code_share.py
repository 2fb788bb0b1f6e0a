"""Lines by role: counted as `grep -c` counts, drawn with areas that are their shares."""

from __future__ import annotations

import subprocess
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import pytest

from mlsys_lab.viz import text_of
from mlsys_lab.viz.code_share import ENDINGS, ROLES, boxes, lines_by_role

ROOT = Path(__file__).resolve().parents[2]


def test_lines_are_those_that_grep_counts():
    found = lines_by_role(ROOT)
    for role in ("learning", "planning", "tests"):
        files = [f for place in ROLES[role] for f in (ROOT / place).rglob("*") if f.suffix in ENDINGS]
        done = subprocess.run(
            ["grep", "-ch", "[^[:space:]]", *map(str, files)], capture_output=True, text=True, check=False
        )
        assert found[role] == sum(map(int, done.stdout.split()))


def test_what_is_smaller_than_its_name_shares_a_box_that_lists_it():
    figure, axes = plt.subplots()
    boxes(axes, {"a": 900, "b": 60, "c": 20, "d": 15, "e": 5}, "e")
    areas = sorted(p.get_width() * p.get_height() for p in axes.patches)
    assert areas == pytest.approx([0.5, 3.5, 6, 90])
    assert "rest: c, d" in text_of(figure)
    plt.close(figure)


def test_an_installed_course_has_neither_tests_nor_lessons(tmp_path):
    for place in ("mlsys_lab/nn", "autograder", "tests", "labs"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.py").write_text("x = 1\n\n# why\n   \n")
    assert lines_by_role(tmp_path) == {"learning": 2, "grading": 2}
    (tmp_path / "pyproject.toml").touch()
    assert lines_by_role(tmp_path) == {"learning": 2, "grading": 2, "lessons": 2, "tests": 2}


@pytest.mark.parametrize("guess", [None, 4.0, 20.0, 70.0])
def test_areas_are_shares_and_the_words_say_them(guess):
    figure, axes = plt.subplots()
    boxes(axes, {"a": 600, "b": 250, "c": 100, "d": 50}, "c", guess)
    areas = sorted(p.get_width() * p.get_height() for p in axes.patches)
    wanted = [5, 10, 25, 60] + ([guess] if guess else [])
    assert areas == pytest.approx(sorted(wanted))
    said = text_of(figure)
    assert "c; 10 %." in said
    assert ("your prediction:; " in said) == bool(guess)
    right = max(p.get_x() + p.get_width() for p in axes.patches)
    assert axes.get_xlim()[1] >= right - 1e-9
    plt.close(figure)
