"""The course's grade of each student: homework by weight, labs and readings by completion, a project instead.

Grades come from the folders that `grade` wrote (`grades/hw1`, `grades/lab00`), everything else from CSVs that
somebody keeps: a column per reading (done or not) and per part of the project (percent of that part).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from autograder.assignment import UsageError
from autograder.course_plan import CoursePlan
from autograder.grades import Grade, Grades, read_grades
from autograder.people import TELLING, Index, Person, meaning, person
from autograder.report import spreadsheet_cell
from autograder.roster import Roster
from autograder.table import Line, read_sheet

DONE = {"1": 1.0, "yes": 1.0, "x": 1.0, "done": 1.0, "true": 1.0, "0": 0.0, "no": 0.0, "false": 0.0, "-": 0.0}


@dataclass
class Standing:
    """One student's shares, from 0 to 1, by homework, lab, reading or part of the project."""

    who: Person
    shares: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Total:
    """One student's grade in the course.

    Attributes:
        points: percent of the course's grade, by `completion`, each homework, or `project`.
        total: their sum; what is not there yet counts as nothing.
    """

    who: Person
    points: Mapping[str, float | None]
    total: float
    notes: tuple[str, ...]


def read_standings(
    folders: Sequence[Path], sheets: Sequence[Path], plan: CoursePlan, roster: Roster | None
) -> list[Standing]:
    """Everything that is known of every student.

    Args:
        folders: of gradings, each with a summary.json.
        sheets: CSVs of readings and project parts.
        roster: the students; without it whoever has a grade.

    Raises:
        UsageError: a folder or a CSV that cannot be read, a cell that means nothing, a student of a CSV who
            is nowhere else.
    """
    read = [read_grades(folder) for folder in folders]
    seen: dict[str, Path] = {}
    for grades in read:
        if grades.assignment in seen:
            both = f"{seen[grades.assignment]} and {grades.folder}"
            raise UsageError(f"{both} both hold grades of {grades.assignment}")
        seen[grades.assignment] = grades.folder
    people = list(roster.people) if roster is not None else _everybody(read)
    standings = [Standing(p) for p in people]
    index = _index(people)
    for grades in read:
        for grade in grades.counted:
            who, _ = grade.found_in(index)
            if who is not None:
                _put_grade(standings[who.row], grades.assignment, grade, plan)
                people[who.row] = _completed(people[who.row], grade)
    index = _index(people)
    for path in sheets:
        _read_scores(path, plan, index, standings)
    return standings


def _index(people: Sequence[Person]) -> Index:
    return Index([replace(p, row=n) for n, p in enumerate(people)])


def _completed(who: Person, grade: Grade) -> Person:
    """A student with what a grading knows besides: a list of names may be scored by login."""
    ids = tuple(dict.fromkeys([*who.ids, *grade.ids]))
    return replace(who, ids=ids, login=who.login or grade.login, email=who.email or grade.email)


def _everybody(read: Sequence[Grades]) -> list[Person]:
    """Whoever has a grade anywhere, each once."""
    people: list[Person] = []
    for grades in read:
        index = Index(people)
        for grade in grades.counted:
            who, _ = grade.found_in(index)
            if who is None:
                people.append(Person(len(people), grade.student, grade.ids, grade.login, grade.email))
    return people


def _put_grade(standing: Standing, name: str, grade: Grade, plan: CoursePlan) -> None:
    if name in plan.weights:
        standing.shares[name] = grade.final / grade.possible if grade.possible else 0.0
    else:
        standing.shares[name] = float(grade.score > 0 and grade.score >= plan.done_from * grade.max_score)
    if grade.status == "error":
        standing.notes.append(f"{name}: {grade.message}")


def _read_scores(path: Path, plan: CoursePlan, index: Index, standings: Sequence[Standing]) -> None:
    sheet = read_sheet(path, "the CSV of scores")
    parts = dict(plan.project.parts) if plan.project is not None else {}
    telling = {column for column in sheet.columns if meaning(column) in (*TELLING, "section")}
    items = [column for column in sheet.columns if column not in telling and column]
    unknown = [c for c in items if c in plan.weights or (plan.of and c not in (*parts, *plan.of))]
    if not items or not telling or unknown:
        expected = ", ".join((*parts, *(plan.of or ("any names of labs and readings",))))
        said = f"{unknown[0]!r}, which is none of these" if unknown else ", ".join(sheet.columns)
        raise UsageError(
            f"{path}: expected columns that tell students apart, and of {expected}; found {said}"
        )
    for line in sheet.lines:
        cells: dict[str, str] = {}
        for column in telling:
            cells.setdefault(meaning(column), line.cells.get(column, ""))
        who = person(Line(line.number, cells))
        if who is None or not who.shown:
            continue
        keys = [key for key in (who.login, who.name) if key]
        match, why = index.find(ids=who.ids, email=who.email, logins=keys, names=keys)
        if match is None:
            raise UsageError(
                f"{path}, row {line.number}: nobody is {who.shown!r}" + (f": {why}" if why else "")
            )
        for item in items:
            share = _share(line.get(item), item in parts, f"{path}, row {line.number}: {item}")
            if share is not None:
                standings[match.row].shares[item] = share


def _share(text: str, percent: bool, where: str) -> float | None:
    if not text:
        return None
    if not percent:
        if text.casefold() not in DONE:
            raise UsageError(f"{where} is 1 or 0, yes or no, got {text!r}")
        return DONE[text.casefold()]
    try:
        value = float(text.replace(",", ".").removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:  # nan is neither
        raise UsageError(f"{where} is a percentage from 0 to 100, got {text!r}")
    return value / 100


def totals(standings: Sequence[Standing], plan: CoursePlan) -> list[Total]:
    """Each student's grade in the course.

    Who has a mark in any part of the project is graded by the project instead of the homeworks it replaces.
    """
    parts = dict(plan.project.parts) if plan.project is not None else {}
    graded = {key for s in standings for key in s.shares}
    items = plan.of or tuple(sorted(graded - set(plan.weights) - set(parts)))
    return [_total(s, plan, parts, items, graded) for s in standings]


def _total(
    s: Standing, plan: CoursePlan, parts: Mapping[str, float], items: Sequence[str], graded: set[str]
) -> Total:
    notes = list(s.notes)
    points: dict[str, float | None] = {}
    done = sum(s.shares.get(item, 0.0) for item in items)
    points["completion"] = plan.completion * done / len(items) if items else None
    by_project = any(part in s.shares for part in parts)
    replaced = plan.project.replaces if plan.project is not None and by_project else ()
    for name, weight in plan.weights.items():
        points[name] = None if name in replaced or name not in s.shares else weight * s.shares[name]
        if name in graded and name not in s.shares and name not in replaced:
            notes.append(f"no grade of {name}")
    if plan.project is not None:
        earned = sum(percent / 100 * s.shares.get(part, 0.0) for part, percent in parts.items())
        points["project"] = plan.project.weight * earned if by_project else None
        missing = [part for part in parts if part not in s.shares]
        if by_project and missing:
            notes.append(f"no mark of the project's {', '.join(missing)}")
        if by_project:
            notes.append(f"project instead of {', '.join(replaced)}")
    rounded = {key: None if value is None else round(value, 2) for key, value in points.items()}
    total = round(sum(value for value in points.values() if value is not None), 2)
    return Total(s.who, rounded, total, tuple(notes))


def totals_csv(found: Iterable[Total]) -> str:
    """The class as CSV; what a spreadsheet would run gets an apostrophe."""
    rows = list(found)
    columns = list(rows[0].points) if rows else []
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["student", "id", "login", "email", "section", *columns, "total", "notes"])
    for row in rows:
        who = row.who
        cells = [who.shown, " ".join(who.ids), who.login, who.email, who.section]
        cells += ["" if row.points[c] is None else f"{row.points[c]:g}" for c in columns]
        writer.writerow([spreadsheet_cell(c) for c in [*cells, f"{row.total:g}", "; ".join(row.notes)]])
    return stream.getvalue()
