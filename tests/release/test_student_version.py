"""The rules of the student version, over every lab and homework that the folders hold."""

from __future__ import annotations

import ast
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

from autograder.assignment import Assignment, find
from autograder.notebook import header
from autograder.pair import SETUP, derive, execute, is_compared, read_source, write_notebook, write_percent
from autograder.reference import reference
from autograder.release import leaks
from autograder.run_tests import collect_tests
from autograder.student import reference_code, solution_lines, student_notebook
from autograder.workspace import course_files

ROOT = Path(__file__).resolve().parents[2]
ALL = find(ROOT)
every = pytest.mark.parametrize("name", list(ALL))
labs = pytest.mark.parametrize("name", [n for n, a in ALL.items() if a.is_lab])

#: CPU seconds that running a notebook may take, kernel and its children together.
MOST_CPU_S = {"lab": 40.0, "hw": 30.0}


def kind(assignment: Assignment) -> str:
    return "lab" if assignment.is_lab else "hw"


def grade_id(cell: NotebookNode) -> str:
    return str(cell.metadata.get("nbgrader", {}).get("grade_id", ""))


def tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


@every
def test_deriving_the_pair_again_changes_nothing(name):
    source, stored = ALL[name].source, ALL[name].notebook
    fix = f"python -m autograder.pair {source.relative_to(ROOT)}"
    assert write_percent(read_source(source)) == source.read_text(encoding="utf-8"), fix
    assert write_notebook(derive(source, stored)) == stored.read_text(encoding="utf-8"), fix


@every
def test_compared_cells_have_run_and_no_other_cell_keeps_an_output(name):
    cells = [c for c in nbformat.read(ALL[name].notebook, as_version=4).cells if c.cell_type == "code"]
    for count, cell in enumerate(cells, 1):
        if is_compared(cell):
            # With `execution_count: null` nbval would skip the cell and pass.
            assert cell.execution_count == count, f"{cell.id}: run autograder.pair"
            assert cell.outputs, f"{cell.id} is compared and prints nothing"
            assert all(o.output_type == "stream" or set(o.data) == {"text/plain"} for o in cell.outputs)
        else:
            assert cell.outputs == []
            assert cell.execution_count is None


@every
def test_every_exercise_has_a_marker_and_its_stub_parses(name):
    solved = {c.id: c for c in read_source(ALL[name].source).cells}
    stubs = {c.id: c for c in student_notebook(ALL[name].source).cells}
    wanted = {"exercise", "predict"} if ALL[name].is_lab else {"exercise"}
    exercises = [c for c in solved.values() if wanted & set(tags(c))]
    assert exercises
    for cell in exercises:
        assert "### BEGIN SOLUTION" in cell.source, cell.id
        assert stubs[cell.id].source != cell.source
    for cell in solved.values():
        marked = "### BEGIN SOLUTION" in cell.source
        assert not marked or {"exercise", "predict"} & set(tags(cell)) or cell.cell_type != "code", cell.id
    for cell in stubs.values():
        if cell.cell_type == "code":
            ast.parse("\n".join(x for x in cell.source.split("\n") if not x.lstrip().startswith(("%", "!"))))


@every
def test_no_output_marker_or_private_metadata_is_in_the_student_version(name):
    files = course_files({name: ALL[name]})
    (path,) = [p for p in files if p.endswith(".ipynb")]
    cells = json.loads(files[path])["cells"]
    assert all(cell.get("outputs", []) == [] for cell in cells)
    assert all(cell.get("execution_count") is None for cell in cells)
    for text in (files[path].decode(), files[path.removesuffix("ipynb") + "py"].decode()):
        for private in ("SOLUTION", "lines_to_next_cell", "jupytext:", '"jupytext": {', "nbval-check-output"):
            assert private not in text


def test_nothing_secret_is_in_what_all_students_get():
    assert all(solution_lines(a.source) for a in ALL.values()), "a scan for nothing finds nothing"
    assert leaks(course_files(ALL), list(ALL.values())) == []


@every
def test_the_first_code_cell_is_the_common_setup(name):
    first = next(c for c in student_notebook(ALL[name].source).cells if c.cell_type == "code")
    assert tags(first) == ["setup"]
    assert first.source == SETUP


@every
def test_the_points_of_check_cells_header_and_tests_agree(name):
    assignment = ALL[name]
    marks = collect_tests([*assignment.public, *assignment.hidden])
    total = sum(t.points for t in marks) + assignment.clean_start
    assert total == assignment.points == header(assignment.source)["points"]
    shown = {}
    for cell in read_source(assignment.source).cells:
        if grade_id(cell).endswith("-check"):
            question = grade_id(cell).removesuffix("-check").split("-", 1)[1]
            shown[question] = cell.metadata["nbgrader"]["points"]
            assert f'check("{name}.{question}"' in cell.source
    public: dict[str, float] = {}
    for test in marks:
        if not test.hidden:
            public[test.question] = public.get(test.question, 0) + test.points
    assert shown == public
    assert set(assignment.questions) >= {t.question for t in marks}


@every
def test_no_exercise_needs_a_later_lab(name):
    facts = {a.source.stem.split("_")[0]: header(a.source) for a in ALL.values()}
    own = header(ALL[name].source)
    for number in own["prerequisites"]:
        assert number in facts, f"{name} builds on lab {number}, which is not there"
        assert facts[number]["week"] <= own["week"]
    seen, ahead = set(), list(own["prerequisites"])
    while ahead:
        number = ahead.pop()
        assert number != ALL[name].source.stem.split("_")[0], "prerequisites go in a circle"
        if number not in seen:
            seen.add(number)
            ahead += facts[number]["prerequisites"]


@labs
def test_each_exercise_of_a_lab_has_a_reference_for_skip(name):
    for question in reference_code(ALL[name].source):
        found = reference(ROOT, name, question)
        assert found
        assert all(callable(f) for f in found.values())
    assert set(reference_code(ALL[name].source)) == set(ALL[name].questions)


def printed(cell: NotebookNode) -> str:
    return "".join(o.get("text", "") for o in cell.get("outputs", []) if o.output_type == "stream")


@pytest.fixture(scope="module")
def ran(packages: Callable[..., None]) -> Callable[[str, str], tuple[list[NotebookNode], float]]:
    """Run a lab's or homework's notebook once, solved or as released: its code cells and the CPU seconds."""
    done: dict[tuple[str, str], tuple[list[NotebookNode], float]] = {}

    def run(name: str, version: str) -> tuple[list[NotebookNode], float]:
        packages(*header(ALL[name].source)["needs"])
        if (name, version) not in done:
            source = ALL[name].source
            notebook = read_source(source) if version == "solved" else student_notebook(source)
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            executed = execute(notebook, source.parent)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            done[name, version] = ([c for c in executed.cells if c.cell_type == "code"], cpu_s)
        return done[name, version]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("version", ["solved", "student"])
@every
def test_run_all_reaches_the_end_within_its_time(name, version, ran, record_property, capsys):
    cells, cpu_s = ran(name, version)
    assert not [o for c in cells for o in c.outputs if o.output_type == "error"]
    record_property("cpu_s", cpu_s)
    with capsys.disabled():
        print(f"\n{name}, {version}: {cpu_s:.1f} CPU-s")
    assert cpu_s <= MOST_CPU_S[kind(ALL[name])]


@pytest.mark.slow
@every
def test_each_check_passes_solved_and_prints_one_line_unsolved(name, ran):
    def checks(version: str) -> dict[str, str]:
        return {grade_id(c): printed(c) for c in ran(name, version)[0] if grade_id(c).endswith("-check")}

    solved, unsolved = checks("solved"), checks("student")
    assert set(solved) == set(unsolved)
    assert {f"{name}-{q}-check" for q in ALL[name].questions} == set(solved)
    for check, text in solved.items():
        assert ": correct" in text, check
        assert unsolved[check].splitlines() == [
            f"{check.removesuffix('-check').replace('-', '.')}: not solved yet"
        ]


@pytest.mark.slow
@every
def test_the_stored_outputs_of_compared_cells_are_what_a_run_gives(name, ran):
    def outputs(cell: NotebookNode) -> list[Any]:
        found: list[Any] = []
        for o in cell.outputs:
            if o.output_type == "stream" and found and found[-1][0] == ("stream", o.name):
                found[-1] = (found[-1][0], found[-1][1] + o.text)  # a kernel may flush a line in two pieces
            elif o.output_type == "stream":
                found.append((("stream", o.name), o.text))
            else:
                found.append((o.output_type, o.get("data")))
        return found

    stored = {c.id: c for c in nbformat.read(ALL[name].notebook, as_version=4).cells if c.cell_type == "code"}
    for cell in ran(name, "solved")[0]:
        if is_compared(cell):
            assert outputs(cell) == outputs(stored[cell.id]), cell.id
