"""Points of written answers, from a CSV that somebody filled in: gradebook.csv, or a list of one's own."""

from __future__ import annotations

from pathlib import Path

from autograder.assignment import Assignment, UsageError
from autograder.compare import counted
from autograder.course_plan import Rule
from autograder.grade import Graded
from autograder.grades import Grades, read_rows
from autograder.marks import Mark, read_marks, write_marks
from autograder.people import Index, Person, meaning, person
from autograder.policy import settled
from autograder.report import write_class, write_submission
from autograder.table import Line, Sheet, read_sheet

WHAT = "the CSV of marks"


def give_marks(path: Path, assignment: Assignment, grades: Grades, rule: Rule) -> list[str]:
    """Read marks into a grading; all of them, or none where one is wrong.

    Args:
        path: a CSV with a column `manual_score`, perhaps `late_days`, and columns that tell students apart; a
            column `name` with the submissions' own names, as gradebook.csv has it, goes before these.

    Returns:
        What was done, a line each.

    Raises:
        UsageError: a row that means nothing; the line names it.
    """
    sheet = read_sheet(path, WHAT)
    if not {"manual_score", "late_days"} & set(sheet.columns):
        raise UsageError(f"{WHAT} {path} has no column manual_score; it has: {', '.join(sheet.columns[:10])}")
    rows = read_rows(grades)
    given = _given(sheet, rows, assignment)
    if not given:
        raise UsageError(f"{WHAT} {path} gives no mark: its cells of manual_score are all empty")
    marks = read_marks(grades.folder)
    marks |= {name: _merged(marks.get(name), mark) for name, mark in given.items()}
    after = settled(rows, rule, marks)
    try:
        write_marks(grades.folder, marks)
        for before, row in zip(rows, after, strict=True):
            if row != before:
                write_submission(row, assignment, grades.folder, grades.facts)
        write_class(after, assignment, grades.folder, grades.facts)
    except OSError as error:
        raise UsageError(
            f"cannot write to {grades.folder}: {error.strerror or error}; free some space"
        ) from None
    waiting = [r.student for r in after if r.counted and r.status == "graded" and r.manual_score is None]
    said = [
        f"{counted(len(given), 'mark')} read from {path}; the grades are in {grades.folder}/gradebook.csv"
    ]
    if waiting and assignment.manual_points:
        said.append(f"still without a mark: {len(waiting)} ({', '.join(waiting[:6])})")
    return said


def _merged(old: Mark | None, new: Mark) -> Mark:
    """A mark over an earlier one of the same hand-in: what is not given anew stays."""
    if old is None or old.hand_in != new.hand_in:
        return new
    return Mark(
        new.hand_in,
        old.score if new.score is None else new.score,
        old.late_days if new.late_days is None else new.late_days,
    )


def _given(sheet: Sheet, rows: list[Graded], assignment: Assignment) -> dict[str, Mark]:
    by_name = {row.name: row for row in rows}
    of_student = [row for row in rows if row.counted]
    index = Index([_as_person(n, row) for n, row in enumerate(of_student)])
    found: dict[str, Mark] = {}
    rows_of: dict[str, int] = {}
    for line in sheet.lines:
        where = f"{WHAT} {sheet.path}, row {line.number}"
        score = _number(line.get("manual_score"), assignment.manual_points, where, "manual_score")
        days = _number(line.get("late_days"), 365.0, where, "late_days")
        if days is not None and days != int(days):
            raise UsageError(f"{where}: late_days are whole days, got {days:g}")
        row = by_name.get(line.get("name")) or _by_person(line, index, of_student)
        if row is not None and days == row.late_days and "final" in sheet.columns:
            days = None  # the gradebook's own column, given back unchanged
        if score is None and days is None:
            continue
        if row is None:
            said = (
                line.get("name") or line.get("student") or ", ".join(filter(None, line.cells.values()))[:60]
            )
            raise UsageError(f"{where}: nobody in this grading is {said!r}")
        if row.name in rows_of:
            raise UsageError(f"{where}: {row.student} also stands in row {rows_of[row.name]}")
        rows_of[row.name] = line.number
        found[row.name] = Mark(str(row.stamp.get("submission")), score, None if days is None else int(days))
    return found


def _number(text: str, most: float, where: str, column: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:  # nan is neither
        raise UsageError(f"{where}: {column} is a number from 0 to {most:g}, got {text!r}")
    return value


def _by_person(line: Line, index: Index, rows: list[Graded]) -> Graded | None:
    cells: dict[str, str] = {}
    for column, cell in line.cells.items():
        cells.setdefault(meaning(column), cell)
    who = person(Line(line.number, cells))
    if who is None:
        return None
    keys = [key for key in (who.login, who.name) if key]
    match, _ = index.find(ids=who.ids, email=who.email, logins=keys, names=keys)
    return rows[match.row] if match is not None else None


def _as_person(n: int, row: Graded) -> Person:
    return Person(n, row.student, row.sender.ids, row.sender.login, row.sender.email)
