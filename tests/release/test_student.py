"""Stubs: what stands in place of a solution parses, raises or is None, and says nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from autograder.assignment import UsageError
from autograder.pair import derive, pair, read_source, write_notebook, write_percent
from autograder.reference import reference
from autograder.student import (
    packed_reference,
    reference_code,
    solution_lines,
    student_notebook,
    without_solution,
)

SOURCE = '''\
# ---
# jupyter:
#   kernelspec: {display_name: x, language: python, name: python3}
#   mlsys_lab: {title: T, week: 1, prerequisites: [], minutes: 5, needs: [], parts: [], points: 10}
# ---

# %%
import math

# %% nbgrader={"grade": false, "grade_id": "answer"} tags=["nbval-check-output"]
print(6 * 7)

# %% nbgrader={"grade": false, "grade_id": "lab00-q1", "solution": true} tags=["exercise"]
def root(x):
    """The root."""
    if x < 0:
        ### BEGIN SOLUTION
        return -math.sqrt(-x)
        ### END SOLUTION
    return math.sqrt(x)

# %% tags=["predict"]
### BEGIN SOLUTION
guess = 4.25
### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "essay", "solution": true, "points": 2}
# ### BEGIN SOLUTION
# Because the memory is slower.
# ### END SOLUTION

# %% [markdown] tags=["instructor"]
# Rubric: two points for the memory wall.
'''


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "labs" / "00_roots.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    return path


def test_a_region_in_a_function_raises_at_its_indentation(source):
    (cell,) = [c for c in student_notebook(source).cells if c.id == "lab00-q1"]
    namespace: dict = {"math": __import__("math")}
    exec(cell.source, namespace)
    assert namespace["root"](9) == 3
    with pytest.raises(NotImplementedError):
        namespace["root"](-9)


def test_a_region_at_the_top_becomes_none_so_that_run_all_goes_on():
    text = "### BEGIN SOLUTION\na, (b, c) = 1, (2, 3)\nd: int = 4\nprint(a)\n### END SOLUTION\ne = 5"
    namespace: dict = {}
    exec(without_solution(text, "cell"), namespace)
    assert [namespace[k] for k in "abcde"] == [None, None, None, None, 5]


def test_a_starter_line_stands_in_for_the_solution():
    region = ["### BEGIN SOLUTION", "return good(x)", "### STARTER: return leaky(x)", "### END SOLUTION"]
    text = "\n    ".join(["def f(x):", *region])
    assert without_solution(text, "cell") == "def f(x):\n    return leaky(x)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("### BEGIN SOLUTION\nx = 1", "without END"),
        ("x = 1\n### END SOLUTION", "without BEGIN"),
        ("### BEGIN SOLUTION\n### BEGIN SOLUTION", "twice"),
        ("### BEGIN SOLUTION\nprint(1)\n### END SOLUTION", "must assign a name"),
        ("### BEGIN SOLUTION\nx = (\n### END SOLUTION", "cannot be parsed"),
    ],
)
def test_a_marker_that_makes_no_stub_is_refused(text, says):
    with pytest.raises(UsageError, match=says):
        without_solution(text, "hw1.py, cell q1")


def test_nothing_of_an_instructor_is_left(source):
    text = write_percent(student_notebook(source)) + write_notebook(student_notebook(source))
    for secret in ("math.sqrt(-x)", "4.25", "memory is slower", "Rubric", "SOLUTION", "nbval-check-output"):
        assert secret not in text
    assert "Your answer here" in text
    for cell in student_notebook(source).cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)
            assert cell.outputs == []


def test_the_student_version_of_a_student_version_is_the_same(source):
    once = write_percent(student_notebook(source))
    source.write_text(once)
    assert write_percent(student_notebook(source)) == once


def test_solution_lines_are_the_secret_ones(source):
    assert solution_lines(source) == {
        "return -math.sqrt(-x)",
        "guess = 4.25",
        "Because the memory is slower.",
        "Rubric: two points for the memory wall.",
    }


def test_a_reference_runs_by_itself_and_is_packed(source):
    assert list(reference_code(source)) == ["q1"]
    assert "sqrt" not in packed_reference(source)
    root = source.parents[1]
    solved = reference(root, "lab00", "q1")
    (root / "labs" / "checks").mkdir()
    (root / "labs" / "checks" / "reference_00.json").write_text(packed_reference(source))
    source.unlink()
    packed = reference(root, "lab00", "q1")
    assert solved["root"](-9) == packed["root"](-9) == -3
    assert packed["root"].__reference__
    with pytest.raises(UsageError, match="no exercise q7"):
        reference(root, "lab00", "q7")


def test_pairing_twice_changes_nothing_and_stores_only_compared_outputs(source):
    stored = pair(source)
    first, text = stored.read_text(), source.read_text()
    pair(source)
    assert (stored.read_text(), source.read_text()) == (first, text)
    with_output = [c for c in derive(source, stored).cells if c.get("outputs")]
    assert [(c.execution_count, c.outputs[0].text) for c in with_output] == [(2, "42\n")]


def test_an_output_does_not_outlive_its_source(source):
    stored = pair(source)
    source.write_text(source.read_text().replace("6 * 7", "6 * 8"))
    assert not [c for c in derive(source, stored).cells if c.get("outputs")]


def test_two_cells_with_one_grade_id_are_refused(source):
    source.write_text(source.read_text().replace('"essay"', '"lab00-q1"'))
    with pytest.raises(UsageError, match="two cells have the grade_id lab00-q1"):
        read_source(source)


def test_a_call_without_arguments_is_no_secret_line_and_one_with_arguments_is(tmp_path):
    source = tmp_path / "lab.py"
    inside = "    __syncthreads();\n    return spread(total, 3)\n"
    source.write_text(f"# %%\ndef f(total):\n    ### BEGIN SOLUTION\n{inside}    ### END SOLUTION\n")
    assert solution_lines(source) == {"return spread(total, 3)"}
