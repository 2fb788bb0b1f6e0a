"""One submission to one row: its tests by value, its notebook from a clean start, its points.

The score of a test is its points or nothing; a question is as fine-grained as its tests. Points for a clean
start (no cell raises when the notebook is run from top to bottom) are multiplied by the share of the other
points earned: an empty notebook runs cleanly too.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autograder.assignment import Assignment
from autograder.errors import StudentError
from autograder.notebook import NotebookError, code_cells, sanitised
from autograder.run_tests import run_tests
from autograder.sandbox import Sandbox
from autograder.sender import NOBODY, Sender, sender_from
from autograder.session import SandboxSession
from autograder.submission import Submission
from autograder.versions import refuse_another


@dataclass(frozen=True)
class TestRow:
    """One test in a report: what a student may see of it."""

    __test__ = False

    title: str
    question: str
    hidden: bool
    score: float
    max_score: float
    message: str = ""
    detail: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graded:
    """How one submission did.

    Attributes:
        status: `graded`, or `error` where there was nothing to grade; `message` says why in one line.
        clean_start: points for running from a clean start, None where that was not tried.
        clean_start_ran: no cell raised; `clean_start_message` says which did.
        notes: what the student should know besides: cells that failed to load, names that are missing.
        printed: what the code printed while it was graded, capped.
        sender: what the course system or the roster says of the student.
        manual_score: points of the written answers, None until they are given.
        deducted: points that `late_days` cost under the course's plan.
    """

    name: str
    student: str
    counted: bool
    status: str
    message: str
    score: float
    max_score: float
    manual_points: float
    seconds: float
    tests: tuple[TestRow, ...] = ()
    clean_start: float | None = None
    clean_start_points: float = 0.0
    clean_start_ran: bool = False
    clean_start_message: str = ""
    notes: tuple[str, ...] = ()
    printed: str = ""
    stamp: Mapping[str, Any] = field(default_factory=dict)
    sender: Sender = NOBODY
    manual_score: float | None = None
    late_days: int = 0
    deducted: float = 0.0
    modified: float = 0.0

    @property
    def possible(self) -> float:
        """The points that `final` is out of: written answers are among them once somebody has read them."""
        return self.max_score + (self.manual_points if self.manual_score is not None else 0.0)

    @property
    def owner(self) -> str:
        """Equal for all hand-ins of one student."""
        return self.sender.key or self.student.casefold()

    @property
    def final(self) -> float:
        """What counts: the points of the tests and those given by hand, less what being late costs."""
        return round(max(0.0, self.score + (self.manual_score or 0.0) - self.deducted), 2)

    def by_question(self) -> dict[str, tuple[float, float]]:
        """Points earned and possible per question, in the order of the tests."""
        table: dict[str, tuple[float, float]] = {}
        for t in self.tests:
            earned, possible = table.get(t.question, (0.0, 0.0))
            table[t.question] = (earned + t.score, possible + t.max_score)
        return table


def max_score(assignment: Assignment, nbval: bool) -> float:
    """Points that can be had: without the clean-start run, its points are not among them."""
    return assignment.points - (0.0 if nbval else assignment.clean_start)


def failed(submission: Submission, assignment: Assignment, message: str, nbval: bool, stamp: Any) -> Graded:
    """The row of a submission that cannot be graded."""
    return Graded(
        name=submission.name,
        student=submission.student,
        counted=submission.counted,
        status="error",
        message=message,
        score=0.0,
        max_score=max_score(assignment, nbval),
        manual_points=assignment.manual_points,
        seconds=0.0,
        stamp=stamp,
        sender=submission.sender,
        modified=submission.modified,
    )


def grade(
    submission: Submission,
    assignment: Assignment,
    *,
    workers: Sandbox,
    kernels: Sandbox | None,
    seed: int,
    stamp: Mapping[str, Any],
) -> Graded:
    """Grade one submission.

    Args:
        workers: sandbox whose children run the graded functions; sees no graded module.
        kernels: sandbox whose children run the whole notebook, or None to leave the clean start out.
        seed: of the tests' random inputs.
        stamp: what tells this grading from another of the same submission; kept in the result.

    Returns:
        The row; whatever the submission does, there is one.
    """
    started = time.perf_counter()
    nbval = kernels is not None
    if submission.error:
        return failed(submission, assignment, submission.error, nbval, stamp)
    try:
        cells = code_cells(submission.data, submission.kind)
        refuse_another(submission.data, submission.kind, assignment.release, assignment.accepts)
    except NotebookError as error:
        return failed(submission, assignment, str(error), nbval, stamp)
    session = SandboxSession(workers, cells, assignment)
    try:
        results = run_tests([*assignment.public, *assignment.hidden], session, seed=seed)
    finally:
        printed = session.close()
    rows = tuple(_row(r) for r in results)
    earned, possible = sum(r.score for r in rows), sum(r.max_score for r in rows)
    clean, said = (False, "") if kernels is None else _clean_start(submission, assignment, kernels)
    share = earned / possible if possible else 0.0
    clean_points = round(assignment.clean_start * share, 2) if clean else 0.0
    return Graded(
        name=submission.name,
        student=submission.student,
        counted=submission.counted,
        status="graded",
        message="",
        score=round(earned + clean_points, 2),
        max_score=max_score(assignment, nbval),
        manual_points=assignment.manual_points,
        seconds=round(time.perf_counter() - started, 3),
        tests=rows,
        clean_start=None if kernels is None else clean_points,
        clean_start_points=assignment.clean_start,
        clean_start_ran=bool(clean),
        clean_start_message=said,
        notes=(*named_otherwise(submission, assignment), *_notes(session.load_errors, session.missing)),
        printed=printed,
        stamp=stamp,
        sender=submission.sender,
        modified=submission.modified,
    )


def _row(result: Any) -> TestRow:
    from autograder.feedback import described

    try:
        detail = tuple(described(result.mismatch)) if result.mismatch is not None else ()
    except Exception:  # a value that cannot be shown costs its description, not the submission
        detail = ()
    return TestRow(
        result.title, result.question, result.hidden, result.score, result.points, result.message, detail
    )


def named_otherwise(submission: Submission, assignment: Assignment) -> list[str]:
    """A hand-in named for another homework (`ada_hw2` among those of hw1) is graded, and it is said."""
    kind = assignment.name.rstrip("0123456789")
    found = re.findall(rf"(?<![a-z0-9]){re.escape(kind)}\d+(?![a-z0-9])", submission.name.lower())
    if kind == assignment.name or not found or assignment.name in found:
        return []
    return [f"the hand-in is named {found[0]}, it was graded as {assignment.name}"]


def _notes(errors: list[StudentError], missing: list[str]) -> tuple[str, ...]:
    notes = [f"a statement failed while the notebook was read: {e.public()}" for e in errors[:10]]
    if missing:
        notes.append(f"not found in the submission: {', '.join(missing[:20])}")
    return tuple(notes)


def _clean_start(submission: Submission, assignment: Assignment, kernels: Sandbox) -> tuple[bool, str]:
    """Run the notebook from the top in a fresh sandboxed kernel; metadata and outputs are dropped before."""
    from autograder.run_notebook import run_notebook

    with tempfile.TemporaryDirectory(prefix="mlsys-lab-") as folder:
        path = Path(folder) / f"{assignment.name}.ipynb"
        path.write_bytes(sanitised(submission.data, submission.kind))
        limits = assignment.limits
        run = run_notebook(path, kernels, cell_timeout_s=limits.question_s, total_s=limits.submission_s)
    if run.passed:
        return True, f"all {run.cells} cells ran"
    return False, run.error


def to_json(graded: Graded) -> dict[str, Any]:
    """The row as plain data."""
    return asdict(graded) | {"stamp": dict(graded.stamp)}


def from_json(data: Mapping[str, Any]) -> Graded:
    """The row that `to_json` wrote."""
    tests = tuple(TestRow(**{**t, "detail": tuple(t["detail"])}) for t in data["tests"])
    sender = sender_from(data["sender"])
    return Graded(**{**data, "tests": tests, "notes": tuple(data["notes"]), "sender": sender})
