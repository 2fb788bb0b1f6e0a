"""Before a release: claims about a homework or lab, each shown by running it.

The solution earns everything in the very sandbox that grades; every wrong solution in `mutants/` loses points
in the questions it names; code planted in place of a student's function changes the score, so the graded code
is the student's; the student version earns nothing and holds nothing of the solution.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autograder.assignment import Assignment, UsageError
from autograder.classroom import opened_sandboxes
from autograder.compare import counted
from autograder.notebook import code_cells, sanitised
from autograder.run_tests import TestResult, run_tests
from autograder.sandbox import Sandbox
from autograder.session import SandboxSession
from autograder.student import solution_lines, student_notebook
from autograder.workspace import student_files


@dataclass(frozen=True)
class Finding:
    """One claim, whether it holds, and what was seen where it does not."""

    claim: str
    ok: bool
    detail: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def verify(assignment: Assignment, *, library: Path, level: str) -> Iterator[Finding]:
    """Check every claim about one assignment, cheapest first.

    Args:
        library: the folder of `mlsys_lab`.
        level: the sandbox's level.

    Yields:
        A finding per claim, as soon as it is known.

    Raises:
        UsageError: the paired notebook is not there.
    """
    if not assignment.notebook.is_file():
        raise UsageError(f"{assignment.notebook} is missing: python -m autograder.pair {assignment.source}")
    solved = code_cells(assignment.notebook.read_bytes())
    student = code_cells(_student_bytes(assignment))
    with opened_sandboxes(assignment, level, library) as (workers, kernels):
        full = _graded(workers, solved, assignment)
        yield _full_marks(full)
        other = _graded(workers, solved, assignment, seed=secrets.randbits(32))
        yield _full_marks(other, "also with other random inputs than the class gets, ")
        yield _points(assignment, full)
        yield from _planted(workers, solved, assignment, full)
        yield from _mutants(workers, solved, assignment)
        yield _nothing(_graded(workers, student, assignment))
        yield _no_secrets(assignment)
        yield _runs(
            assignment.notebook.read_bytes(), "the solved notebook", assignment, kernels, compare=True
        )
        yield _runs(_student_bytes(assignment), "the student version", assignment, kernels, compare=False)


def _student_bytes(assignment: Assignment) -> bytes:
    from autograder.notebook_tools import nbformat

    return nbformat.writes(student_notebook(assignment.source)).encode("utf-8")


def _graded(
    workers: Sandbox,
    cells: Sequence[str],
    assignment: Assignment,
    question: str | None = None,
    seed: int | None = None,
) -> list[TestResult]:
    """Grade as a class is graded, or with another draw of the tests' random inputs."""
    session = SandboxSession(workers, cells, assignment)
    try:
        paths = [*assignment.public, *assignment.hidden]
        return run_tests(paths, session, seed=assignment.seed() if seed is None else seed, question=question)
    finally:
        session.close()


def _full_marks(results: Sequence[TestResult], when: str = "") -> Finding:
    lost = tuple(f"{r.question} {r.name}: {r.message}" for r in results if not r.passed)
    return Finding(
        f"{when}the solution passes all {len(results)} tests in the sandbox", not lost and bool(results), lost
    )


def _points(assignment: Assignment, results: Sequence[TestResult]) -> Finding:
    total = sum(r.points for r in results) + assignment.clean_start
    public = sum(r.points for r in results if not r.hidden)
    said = [f"the tests and the clean start add up to {total:g}"] if total != assignment.points else []
    for question in assignment.questions.values():
        own = sum(r.points for r in results if r.question == question.id)
        if question.points and question.points != own:
            said.append(
                f"{question.id}: {counted(question.points, 'point')} by the marks, {own:g} by the tests run"
            )
    claim = f"its points add up to {assignment.points:g} ({public:g} of them in public tests)"
    return Finding(claim, not said, tuple(said))


def _planted(
    workers: Sandbox, solved: Sequence[str], assignment: Assignment, full: Sequence[TestResult]
) -> Iterator[Finding]:
    """Each asked name in turn is bound to something else in a last cell: its question must lose points."""
    kept = []
    for question in assignment.questions.values():
        for name in question.names:
            cells = [*solved, _impostor(name, solved)]
            results = _graded(workers, cells, assignment, question.id)
            if results and all(r.passed for r in results):
                kept.append(f"{question.id}: an impostor of {name} still passes")
    count = sum(len(q.names) for q in assignment.questions.values())
    claim = f"an error planted in each of the {count} graded names changes the score"
    yield Finding(claim, not kept and count > 0, tuple(kept))


def _impostor(name: str, cells: Sequence[str]) -> str:
    """A cell that binds the name to a thing of the same kind that does nothing."""
    if any(re.search(rf"^class {name}\b", cell, re.MULTILINE) for cell in cells):
        return f"class {name}:\n    def __init__(self, *args, **options):\n        pass\n"
    if any(re.search(rf"^def {name}\b", cell, re.MULTILINE) for cell in cells):
        return f"def {name}(*args, **options):\n    return None\n"
    return f"{name} = None\n"


def _mutants(workers: Sandbox, solved: Sequence[str], assignment: Assignment) -> Iterator[Finding]:
    for path in sorted((assignment.folder / "mutants").glob("*.py")) if not assignment.is_lab else []:
        text = path.read_text(encoding="utf-8")
        killed_in = mutant_kills(text)
        results = _graded(workers, [*solved, text], assignment)
        unhurt = [q for q in killed_in if all(r.passed for r in results if r.question == q)]
        lost = sum(r.points - r.score for r in results)
        detail = tuple(f"it keeps all points of {q}" for q in unhurt) or (
            () if killed_in else ("a line `# kills: q1a` is missing",)
        )
        claim = f"mutant {path.stem} loses {counted(lost, 'point')}, some in {', '.join(killed_in)}"
        yield Finding(claim, bool(killed_in) and not unhurt, detail)


def mutant_kills(text: str) -> list[str]:
    """The questions that a wrong solution must lose points in: its line `# kills: q1a, q2b`."""
    found = re.search(r"^# kills:[ ]*(.+)$", text, re.MULTILINE)
    return re.findall(r"[\w.-]+", found[1]) if found else []


def _nothing(results: Sequence[TestResult]) -> Finding:
    earned = tuple(f"{r.question} {r.name} gives {r.score:g}" for r in results if r.passed)
    return Finding("the student version scores 0", not earned and bool(results), earned)


def _no_secrets(assignment: Assignment) -> Finding:
    secret = solution_lines(assignment.source)
    leaks = []
    for path, data in student_files({assignment.name: assignment}).items():
        text = data.decode("utf-8", "replace")
        lines = _said_lines(path, text)
        leaks += [f"{path} holds the solution's line `{line}`" for line in sorted(secret & lines)[:3]]
        if re.search(r"### (BEGIN|END) SOLUTION|### STARTER", text):
            leaks.append(f"{path} holds a marker")
        if "/hidden/" in path or "/mutants/" in path or "/samples/" in path:
            leaks.append(f"{path} is not for students")
    return Finding(
        "no solution text, marker, hidden test or mutant in the student version", not leaks, tuple(leaks)
    )


def _said_lines(path: str, text: str) -> set[str]:
    if path.endswith(".ipynb"):
        text = "\n".join(code_cells(text.encode("utf-8")))
    return {line.strip() for line in text.splitlines()}


def _runs(data: bytes, what: str, assignment: Assignment, kernels: Sandbox, *, compare: bool) -> Finding:
    import tempfile

    from autograder.run_notebook import run_notebook

    with tempfile.TemporaryDirectory(prefix="mlsys-lab-") as folder:
        path = Path(folder) / f"{assignment.source.stem}.ipynb"
        path.write_bytes(data if compare else sanitised(data))
        run = run_notebook(path, kernels, cell_timeout_s=60.0, total_s=300.0)
    stored = " and its stored outputs hold" if compare else ""
    claim = f"{what} runs from a clean start under nbval{stored} ({run.cells} cells)"
    return Finding(claim, run.passed and run.cells > 0, () if run.passed else (run.error,))
