"""Canvas' exported gradebook with one column filled, and nothing else of it touched.

Canvas takes a file back that it wrote: so every other cell stays as it stands there, with its quotes, the
byte order mark, the line ends and the separator. Only the cells of one assignment change, and only those of
students whom we graded; what says that a student is excused (EX) or has not the assignment (N/A) stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autograder.assignment import UsageError
from autograder.compare import counted
from autograder.files import write_whole
from autograder.grades import Grade, Grades
from autograder.people import Index, Person, meaning, person
from autograder.sender import NO_SUBMISSION
from autograder.table import Line, read_text, separator

WHAT = "Canvas' gradebook"
_ASSIGNMENT = re.compile(r".+ \(\d+\)")
_POINTS = "points possible"
_MOST_NAMED = 12


@dataclass
class Filled:
    """What became of the column: how many cells, and who is left out on either side.

    Attributes:
        not_theirs: ours whom Canvas does not have.
        not_ours: Canvas' whom we did not grade.
        kept: cells that say something else than a score.
    """

    cells: int = 0
    not_theirs: list[str] = field(default_factory=list)
    not_ours: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    not_graded: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self, out: Path, column: str) -> list[str]:
        """What to tell the instructor."""
        said = [f"{out}: {counted(self.cells, 'cell')} of {column} filled; import it in Canvas' gradebook"]
        for names, what in (
            (self.not_theirs, "graded here and not in Canvas' file"),
            (self.not_ours, "in Canvas' file and not graded here, left as they were"),
            (self.kept, "excused or without this assignment in Canvas, left as they were"),
            (self.not_graded, "handed in what cannot be graded, left as they were"),
        ):
            if names:
                more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
                said.append(f"{what}: {'; '.join(names[:_MOST_NAMED])}{more}")
        return said + self.notes


def fill(export: Path, assignment: str, grades: Grades, out: Path) -> list[str]:
    """Write Canvas' gradebook with one column filled.

    Args:
        export: as Canvas' gradebook exported it.
        assignment: the column's header, `HW1 (12345)`, or its title alone.
        out: another file.

    Returns:
        What to tell the instructor, a line each.

    Raises:
        UsageError: the export is another kind of file, has not that column or has none of these students.
    """
    if out.resolve() == export.resolve():
        raise UsageError(f"{out} is Canvas' own file: name another with --out")
    text = read_text(export, WHAT)
    table = _Table(export, text)
    at = table.column(assignment, grades)
    filled = Filled()
    table.fill(at, grades, filled)
    try:
        write_whole(out, table.text())
    except OSError as error:
        raise UsageError(
            f"{out} cannot be written ({error.strerror}): name another file with --out"
        ) from None
    return filled.lines(out, table.header[at])


class _Table:
    """The file as raw cells: what is between two separators, quotes and all."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.mark = path, "\ufeff" if text.startswith("\ufeff") else ""
        body = text.removeprefix("\ufeff")
        self.separator = separator(body)
        self.records, self.ends = _raw(body, self.separator)
        self.header = [_value(cell).strip() for cell in self.records[0]]
        self.means = [meaning(header) for header in self.header]
        self.points = next((r for r in self.records[1:] if _value(r[0]).strip().casefold() == _POINTS), None)
        known = set(self.means)
        if self.points is None or "id" not in known or not known & {"student", "last", "name"}:
            raise UsageError(
                f"{path} is not Canvas' exported gradebook: expected the columns Student, ID, SIS Login ID, "
                f"Section and a row Points Possible; found the columns {', '.join(self.header[:6])}"
            )

    def column(self, assignment: str, grades: Grades) -> int:
        """Where an assignment's column is."""
        titles = [re.sub(r" \(\d+\)$", "", header).casefold() for header in self.header]
        wanted = assignment.strip()
        exact = [n for n, header in enumerate(self.header) if header == wanted]
        fitting = exact or [
            n
            for n, title in enumerate(titles)
            if title == wanted.casefold() and _ASSIGNMENT.fullmatch(self.header[n])
        ]
        there = ", ".join(h for h in self.header if _ASSIGNMENT.fullmatch(h)) or "none"
        if len(fitting) != 1:
            said = "has no column" if not fitting else f"has {len(fitting)} columns"
            raise UsageError(f"{self.path} {said} {assignment!r}; its assignments: {there}")
        at = fitting[0]
        assert self.points is not None
        if not _ASSIGNMENT.fullmatch(self.header[at]):
            raise UsageError(
                f"{self.path}: the column {self.header[at]!r} is read only; its assignments: {there}"
            )
        named = {k + str(int(n)) for k, n in re.findall(r"\b([a-z]+) ?0*(\d+)\b", titles[at])}
        kind = grades.assignment.rstrip("0123456789")
        others = {name for name in named if name.rstrip("0123456789") == kind}
        if kind != grades.assignment and others and grades.assignment not in others:
            raise UsageError(
                f"the column {self.header[at]!r} is of {min(others)}, the grades in {grades.folder} are of "
                f"{grades.assignment}; the assignments of {self.path}: {there}"
            )
        return at

    def fill(self, at: int, grades: Grades, filled: Filled) -> None:
        """Put each student's score into their cell of a column."""
        assert self.points is not None
        theirs = self._students()
        index = Index([p for p, _ in theirs])
        record_of = {p.row: record for p, record in theirs}
        possible = _cell(self.points, at).strip()
        comma = self.separator == ";" and any(
            re.fullmatch(r"\d+,\d+", _value(c).strip()) for c in self.points
        )
        met: dict[int, Grade] = {}
        for grade in grades.counted:
            who, _ = grade.found_in(index)
            if who is None or who.row in met:
                filled.not_theirs.append(grade.student)
                continue
            met[who.row] = grade
            self._put(record_of[who.row], at, grade, comma, filled)
        filled.not_ours += [p.shown for p, _ in theirs if p.row not in met]
        if not met:
            raise UsageError(
                f"none of the {len(grades.counted)} students in {grades.folder} is in {self.path}: is it the "
                "gradebook of another course?"
            )
        most = max(grade.possible for grade in grades.counted)
        if re.fullmatch(r"\d+([.,]\d+)?", possible) and abs(float(possible.replace(",", ".")) - most) > 0.005:
            filled.notes.append(f"Canvas gives {possible} points for {self.header[at]}, we {most:g}")

    def _students(self) -> list[tuple[Person, list[str]]]:
        found = []
        for number, record in enumerate(self.records[1:], start=2):
            cells: dict[str, str] = {}
            for key, cell in zip(self.means, record, strict=False):
                cells.setdefault(key, _value(cell).strip())
            who = person(Line(number, cells))
            if who is not None and who.shown and record is not self.points:
                found.append((who, record))
        return found

    def _put(self, record: list[str], at: int, grade: Grade, comma: bool, filled: Filled) -> None:
        now = _cell(record, at).strip().casefold()
        if now in ("ex", "n/a"):
            filled.kept.append(grade.student)
            return
        if grade.status == "error" and grade.message != NO_SUBMISSION:
            filled.not_graded.append(grade.student)
            return
        record += [""] * (at + 1 - len(record))
        number = f"{grade.final:.2f}".rstrip("0").rstrip(".")
        record[at] = number.replace(".", ",") if comma else number
        filled.cells += 1

    def text(self) -> str:
        """The file again."""
        rows = zip(self.records, self.ends, strict=True)
        return self.mark + "".join(self.separator.join(record) + end for record, end in rows)


def _raw(text: str, between: str) -> tuple[list[list[str]], list[str]]:
    """A CSV's cells as they stand in it, and each row's end."""
    records, ends = [], []
    cells: list[str] = []
    cell = rf'"(?:[^"]|"")*"[^{between}\r\n]*|[^{between}\r\n]*'
    for match in re.finditer(rf"({cell})({between}|\r\n|\n|\r|\Z)", text):
        if match.start() == len(text) and not cells:
            break  # nothing after the last row's end
        cells.append(match[1])
        if match[2] != between:
            records.append(cells)
            ends.append(match[2])
            cells = []
            if not match[2]:
                break
    return records, ends


def _value(cell: str) -> str:
    quoted = re.fullmatch(r'"((?:[^"]|"")*)"', cell.strip(), re.DOTALL)
    return quoted[1].replace('""', '"') if quoted else cell


def _cell(record: Sequence[str], at: int) -> str:
    return _value(record[at]) if at < len(record) else ""
