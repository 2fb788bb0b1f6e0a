"""Canvas' gradebook with one column filled, marks by hand, the course's grade; what is wrong, in one line."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autograder.assignment import Assignment, load_assignment
from autograder.canvas_gradebook import fill
from autograder.grade import Graded
from autograder.grades import read_grades, read_rows
from autograder.marks import read_marks
from autograder.report import write_class, write_submission
from autograder.sender import Sender
from tests.autograder.exports import CLASS, Student, canvas_export, roster

FACTS = {"version": "v", "sandbox": "namespaces"}
COLUMN = "HW1 (12345)"


def hw(name: str, manual: float = 10.0) -> Assignment:
    return Assignment(
        name=name, title=name, folder=Path(), source=Path(f"{name}.py"), public=(), manual_points=manual
    )


def row_of(s: Student, score: float, **changes: Any) -> Graded:
    made = Graded(
        name=f"{s.squeezed}_{s.canvas_id}",
        student=s.sortable,
        counted=True,
        status="graded",
        message="",
        score=score,
        max_score=100.0,
        manual_points=10.0,
        seconds=0.1,
        stamp={"submission": f"hash{s.number}"},
        sender=Sender(key=f"canvas:{s.canvas_id}", ids=(s.canvas_id,), login=s.login, name=s.sortable),
    )
    return replace(made, **changes)


def score_of(s: Student) -> float:
    return 40 + (s.number * 7) % 101 / 2


def graded(folder: Path, rows: list[Graded], name: str = "hw1", *, whole: bool = False) -> Path:
    """A folder as `grade` leaves it; the reports of each are there if it is whole."""
    for row in rows if whole else ():
        write_submission(row, hw(name), folder / name, FACTS)
    (folder / name).mkdir(parents=True, exist_ok=True)
    write_class(rows, hw(name), folder / name, FACTS)
    return folder / name


def cells(data: bytes, separator: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode("utf-8-sig")), delimiter=separator))


def filled(
    tmp_path: Path, export: bytes, rows: list[Graded], column: str = COLUMN
) -> tuple[bytes, list[str]]:
    (tmp_path / "export.csv").write_bytes(export)
    folder = graded(tmp_path / "grades", rows)
    said = fill(tmp_path / "export.csv", column, read_grades(folder), tmp_path / "in.csv")
    return (tmp_path / "in.csv").read_bytes(), said


EXPORT = {
    "Reading (1)": {101: "3,5", 102: '"x"'},
    COLUMN: {103: "EX", 104: "N/A", 105: "77"},
    "HW2 (12346)": {},
}


@pytest.mark.parametrize("column", [COLUMN, "hw1"])
@pytest.mark.parametrize("bom", [True, False])
def test_exactly_one_column_changes_and_everything_else_stays_to_the_byte(tmp_path, bom, column):
    export = canvas_export(EXPORT, bom=bom).replace(b"\n", b"\r\n", 7)
    after, _ = filled(tmp_path, export, [row_of(s, score_of(s)) for s in CLASS], column)
    assert after.startswith(b"\xef\xbb\xbf") == bom
    old, new = cells(export), cells(after)
    at = old[0].index(COLUMN)
    for n, (before, now) in enumerate(zip(old, new, strict=True)):
        assert before[:at] + before[at + 1 :] == now[:at] + now[at + 1 :], n
    # Put the old cells back by cutting the new ones out: then every byte is as it was.
    back = after
    for s in CLASS:
        if s.number in (103, 104):
            continue
        line = next(x for x in back.splitlines(keepends=True) if b"," + s.canvas_id.encode() + b"," in x)
        told = f"{score_of(s):g}".encode()
        was = EXPORT[COLUMN].get(s.number, "").encode()
        assert line.count(b"," + told + b",,88.5") == 1, line
        back = back.replace(line, line.replace(b"," + told + b",,88.5", b"," + was + b",,88.5"))
    assert back == export


def test_a_test_student_points_and_who_is_excused_stay_and_everybody_missing_is_named(tmp_path):
    stranger = Student("Mallory", "Mal", 666)
    rows = [row_of(s, 50) for s in [*CLASS[2:], stranger]]
    rows[5] = replace(rows[5], status="error", message="not a notebook", score=0.0)
    rows[6] = replace(rows[6], status="error", message="no submission", score=0.0)
    after, said = filled(tmp_path, canvas_export(EXPORT), rows)
    told = {line[1]: line[6] for line in cells(after)}
    assert (told["99999"], told[""]) == ("", "100.00")
    assert (told["90103"], told["90104"], told["90105"]) == ("EX", "N/A", "50")
    assert (told["90101"], told[CLASS[7].canvas_id], told[CLASS[8].canvas_id]) == ("", "", "0")
    text = "\n".join(said)
    assert "26 cells of HW1 (12345) filled" not in text
    assert "25 cells of HW1 (12345) filled" in text
    assert "graded here and not in Canvas' file: Mallory, Mal" in text
    assert "in Canvas' file and not graded here, left as they were: Müller, Jörg; Gößler, Änne" in text
    assert (
        "excused or without this assignment in Canvas, left as they were: Lovelace, Ada; García-López" in text
    )
    assert f"handed in what cannot be graded, left as they were: {CLASS[7].sortable}" in text


def test_a_file_with_semicolons_and_decimal_commas_is_filled_so(tmp_path):
    export = canvas_export({COLUMN: {}, "X (2)": {}}, separator=";", points={COLUMN: "100,00"})
    after, _ = filled(tmp_path, export, [row_of(s, 12.25) for s in CLASS])
    assert {line[5] for line in cells(after, ";")[3:-1]} == {"12,25"}


def test_what_counts_is_written_and_not_what_was_earned(tmp_path):
    rows = [row_of(s, 80, manual_score=7.0, late_days=1, deducted=11.0) for s in CLASS]
    after, said = filled(tmp_path, canvas_export({COLUMN: {}}), rows)
    assert {line[5] for line in cells(after)[3:-1]} == {"76"}
    assert any(line == f"Canvas gives 100.00 points for {COLUMN}, we 110" for line in said)


def test_students_are_found_by_sis_id_login_or_name_too(tmp_path):
    who = [
        Sender(key="a", ids=(CLASS[0].sid.lower(),)),
        Sender(key="b", login=CLASS[1].login.upper()),
        Sender(key="c", name="x"),
    ]
    rows = [row_of(s, 10 + n, sender=w) for n, (s, w) in enumerate(zip(CLASS, who, strict=False))]
    rows[2] = replace(rows[2], student="ADA   lovelace")
    after, _ = filled(tmp_path, canvas_export({COLUMN: {}}), rows)
    assert [line[5] for line in cells(after)[3:6]] == ["10", "11", "12"]


@pytest.fixture
def toy_class(toy, tmp_path) -> Path:
    """The toy homework with a written answer for 10 points, and grades of it in grades/toy."""
    shutil.copytree(toy, tmp_path / "toy")
    toml = tmp_path / "toy" / "assignment.toml"
    toml.write_text(toml.read_text().replace("points = 20", "points = 20\nmanual_points = 10"))
    rows = [row_of(s, score_of(s)) for s in CLASS[:8]]
    late = replace(rows[0].sender, late=True)
    rows[0] = replace(rows[0], sender=late, late_days=1)
    graded(tmp_path / "grades", rows, "toy", whole=True)
    (tmp_path / "course.toml").write_text("late = {per_day = 10}\n")
    return tmp_path


def summary(folder: Path) -> dict[str, Any]:
    rows = json.loads((folder / "summary.json").read_text())["submissions"]
    return {r["student"]: r for r in rows}


def test_marks_fill_manual_score_everywhere_and_stay(command, toy_class):
    text = roster({"login": lambda s: s.login, "manual_score": lambda s: f"{s.number % 10}"}, CLASS[:4])
    (toy_class / "marks.csv").write_text(text)
    done = command("gradebook", "manual", "toy", "marks.csv")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("4 marks read from marks.csv")
    assert "still without a mark: 4" in done.out
    rows = summary(toy_class / "grades" / "toy")
    first, second, fifth = (rows[CLASS[n].sortable] for n in (0, 1, 4))
    assert (first["manual_score"], second["manual_score"], fifth["manual_score"]) == (1, 2, None)
    assert (first["deducted"], first["final"]) == (11, pytest.approx(score_of(CLASS[0]) + 1 - 11))
    page = (toy_class / "grades" / "toy" / first["name"] / "report.html").read_text()
    assert "Written answer: 1 of 10" in page
    assert "1 day late: 11 points deducted" in page
    assert load_assignment(toy_class / "toy").manual_points == 10


def test_the_gradebook_itself_with_its_cells_filled_in_is_a_list_of_marks(command, toy_class):
    book = toy_class / "grades" / "toy" / "gradebook.csv"
    with book.open(newline="") as stream:
        lines = list(csv.reader(stream))
    head = lines[0]
    for line in lines[1:]:
        line[head.index("manual_score")] = "3,5" if line[head.index("name")].startswith("g") else ""
    lines[1][head.index("late_days")] = "0"  # the first is excused
    with (toy_class / "filled.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(lines)
    assert command("gradebook", "manual", "toy", "filled.csv").code == 0
    rows = summary(toy_class / "grades" / "toy")
    given = {k for k, r in rows.items() if r["manual_score"] is not None}
    assert given == {s.sortable for s in CLASS[:8] if s.squeezed.startswith("g")}
    assert rows[CLASS[0].sortable]["late_days"] == 0
    marks = read_marks(toy_class / "grades" / "toy")
    assert {name for name, mark in marks.items() if mark.late_days is not None} == {lines[1][1]}
    for again in (
        "filled.csv",
        "grades/toy/gradebook.csv",
    ):  # nothing is taken back
        assert command("gradebook", "manual", "toy", again).code == 0
        assert summary(toy_class / "grades" / "toy") == rows
    first = rows[CLASS[0].sortable]["name"]
    (toy_class / "one.csv").write_text(f"name,manual_score\n{first},9\n")
    assert command("gradebook", "manual", "toy", "one.csv").code == 0
    one = summary(toy_class / "grades" / "toy")[CLASS[0].sortable]
    assert (one["manual_score"], one["late_days"]) == (9, 0)
    rows[CLASS[0].sortable] = one
    assert {r.name: r.manual_score for r in read_rows(read_grades(toy_class / "grades" / "toy"))} == {
        r["name"]: r["manual_score"] for r in rows.values()
    }


def test_the_courses_grade_adds_up_as_its_plan_says(command, tmp_path):
    ada, bob, cleo = CLASS[2], CLASS[3], CLASS[4]
    by_homework = {"hw1": (50, 80, 100), "hw2": (100, 60, 0), "hw3": (50, 50, 0), "hw4": (0, 20, 0)}
    for name, scores in by_homework.items():
        graded(
            tmp_path / "grades", [row_of(s, x) for s, x in zip((ada, bob, cleo), scores, strict=True)], name
        )
    graded(tmp_path / "grades", [row_of(ada, 90), row_of(bob, 49)], "lab00")
    (tmp_path / "readings.csv").write_text(
        f"login,reading01\n{ada.login},x\n{bob.login},1\n{cleo.login},no\n"
    )
    (tmp_path / "project.csv").write_text(
        f"student,proposal,mid-term,report,poster\n{cleo.name},100,50,80%,\n"
    )
    (tmp_path / "class.csv").write_text(
        roster(
            {"name": lambda s: f"={s.name}" if s is ada else s.name, "id": lambda s: s.canvas_id}, CLASS[2:6]
        )
    )
    scores = ["--scores", "readings.csv", "--scores", "project.csv"]
    done = command("gradebook", "total", "--roster", "class.csv", *scores, "--out", "all.csv")
    assert (done.code, done.err) == (0, "")
    with (tmp_path / "all.csv").open(newline="") as stream:
        book = {line["login"] or line["id"]: line for line in csv.DictReader(stream)}
    rows = [book[s.canvas_id] for s in CLASS[2:6]]
    assert [float(r["total"]) for r in rows] == [
        20 + 10 + 20 + 10 + 0,  # both done; 50, 100, 50, 0 percent of 20 each
        10 + 16 + 12 + 10 + 4,  # the lab below half its points is not done
        0 + 20 + 60 * (0.1 + 0.2 * 0.5 + 0.4 * 0.8),  # by project; no poster yet
        0,
    ]
    assert rows[0]["student"] == f"'={ada.name}"
    assert (rows[2]["hw2"], rows[2]["hw1"], rows[2]["project"]) == ("", "20", "31.2")
    assert rows[2]["notes"] == "no mark of the project's poster; project instead of hw2, hw3, hw4"
    assert rows[3]["notes"] == "no grade of hw1; no grade of hw2; no grade of hw3; no grade of hw4"
    assert re.search(r"García-López|Ana María García-López", done.out)


def export(data: bytes, students: Iterable[Student] = CLASS) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "export.csv").write_bytes(data)
        graded(folder / "grades", [row_of(s, 50) for s in students])

    return write


def marks(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "marks.csv").write_text(text) and None


CANVAS = ("gradebook", "canvas", "export.csv", "--grades", "grades/hw1", "--out", "in.csv", "--assignment")
TOTAL = ("gradebook", "total", "--out", "all.csv")
ADA = CLASS[2]


def of_class(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        graded(folder / "grades", [row_of(s, 50) for s in CLASS])
        (folder / "scores.csv").write_text(text)

    return write


def twice(folder: Path) -> None:
    graded(folder / "grades", [row_of(ADA, 50)])
    shutil.copytree(folder / "grades" / "hw1", folder / "grades" / "hw1 again")


def damaged(folder: Path) -> None:
    graded(folder / "grades", [row_of(ADA, 50)])
    (folder / "grades" / "hw1" / "summary.json").write_text('{"submissions": [{}]}')


BOOK = canvas_export({COLUMN: {}, "HW2 (12346)": {}})
WRONG: list[tuple[str, Callable[[Path], Any], tuple[str, ...], str]] = [
    (
        "a column that is not there",
        export(BOOK),
        (*CANVAS, "HW3 (1)"),
        r"export.csv has no column 'HW3 \(1\)'; its assignments: HW1 \(12345\), HW2 \(12346\)$",
    ),
    (
        "another homework's column",
        export(BOOK),
        (*CANVAS, "HW2 (12346)"),
        r"the column 'HW2 \(12346\)' is of hw2, the grades in grades/hw1 are of hw1; the "
        r"assignments of export.csv: HW1",
    ),
    (
        "a read-only column",
        export(BOOK),
        (*CANVAS, "Final Score"),
        "the column 'Final Score' is read only; its assignments: HW1",
    ),
    (
        "two columns of one title",
        export(canvas_export({COLUMN: {}, "HW1 (7)": {}})),
        (*CANVAS, "HW1"),
        r"has 2 columns 'HW1'; its assignments: HW1 \(12345\), HW1 \(7\)",
    ),
    (
        "a roster for a gradebook",
        export(roster({"name": lambda s: s.name, "id": lambda s: s.sid}).encode()),
        (*CANVAS, COLUMN),
        "export.csv is not Canvas' exported gradebook: expected the columns Student, ID, "
        ".*found the columns name, id",
    ),
    (
        "another course's gradebook",
        export(BOOK, [Student("Zoe", "X", n) for n in range(600, 603)]),
        (*CANVAS, COLUMN),
        "none of the 3 students in grades/hw1 is in export.csv: is it the gradebook of another course",
    ),
    ("an empty gradebook", export(b""), (*CANVAS, COLUMN), "Canvas' gradebook export.csv is empty"),
    (
        "a gradebook in Latin-1",
        export(BOOK.decode("utf-8-sig").replace("王, 伟", "").encode("latin-1", "replace")),
        (*CANVAS, COLUMN),
        r"export.csv, row 4: byte 0xfc is not UTF-8",
    ),
    (
        "onto itself",
        export(BOOK),
        (*CANVAS[:-2], "export.csv", "--assignment", COLUMN),
        "export.csv is Canvas' own file: name another with --out",
    ),
    (
        "no grades there",
        lambda f: (f / "export.csv").write_bytes(BOOK),
        (*CANVAS, COLUMN),
        "grades/hw1 holds no summary.json: name the folder",
    ),
    ("damaged grades", damaged, TOTAL, "summary.json is damaged or of an older release"),
    ("no grades at all", lambda f: None, TOTAL, "grades holds no grades: name the folder"),
    ("one homework twice", twice, TOTAL, "grades/hw1 and grades/hw1 again both hold grades of hw1"),
    (
        "a score of nobody",
        of_class("login,reading01\nzoe,1\n"),
        (*TOTAL, "--scores", "scores.csv"),
        "scores.csv, row 2: nobody is 'zoe'",
    ),
    (
        "a reading half done",
        of_class(f"login,reading01\n{ADA.login},0.5\n"),
        (*TOTAL, "--scores", "scores.csv"),
        "row 2: reading01 is 1 or 0, yes or no, got '0.5'",
    ),
    (
        "a project of 120 percent",
        of_class(f"login,report\n{ADA.login},120\n"),
        (*TOTAL, "--scores", "scores.csv"),
        "row 2: report is a percentage from 0 to 100, got '120'",
    ),
    (
        "a homework by hand",
        of_class(f"login,hw1\n{ADA.login},50\n"),
        (*TOTAL, "--scores", "scores.csv"),
        "scores.csv: expected columns .*proposal, mid-term.*; found 'hw1'",
    ),
    (
        "scores of nothing",
        of_class("login\nada\n"),
        (*TOTAL, "--scores", "scores.csv"),
        "scores.csv: expected columns .*found login",
    ),
    (
        "no such scores",
        of_class(""),
        (*TOTAL, "--scores", "nowhere.csv"),
        "the CSV of scores nowhere.csv cannot be read",
    ),
    (
        "no course.toml where named",
        of_class(""),
        (*TOTAL, "--course", "x.toml"),
        "the course's plan x.toml cannot be read",
    ),
    ("no command", lambda f: None, ("gradebook",), r"Missing command"),
]


@pytest.mark.parametrize(("write", "arguments", "said"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_what_is_wrong_exits_with_2_and_one_line(write, arguments, said, command, tmp_path):
    write(tmp_path)
    before = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    outcome = command(*arguments)
    assert outcome.code == 2, outcome
    assert re.search(said, outcome.err), outcome.err
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("mlsys-lab: ")
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == before


MARKS_WRONG = [
    ("login,score\nx,1\n", "marks.csv has no column manual_score; it has: login, score"),
    (
        "login,manual_score\nzoe,1\n",
        "row 2: nobody in this grading is 'zoe'|row 2: nobody in this grading is",
    ),
    (f"login,manual_score\n{ADA.login},11\n", "row 2: manual_score is a number from 0 to 10, got '11'"),
    (f"login,manual_score\n{ADA.login},nan\n", "row 2: manual_score is a number from 0 to 10, got 'nan'"),
    (f"login,manual_score\n{ADA.login},two\n", "row 2: manual_score is a number from 0 to 10, got 'two'"),
    (f"login,manual_score\n{ADA.login},2\n{ADA.login},3\n", "row 3: Lovelace, Ada also stands in row 2"),
    (f"login,late_days\n{ADA.login},1.5\n", "row 2: late_days are whole days, got 1.5"),
    (f"login,manual_score\n{ADA.login},\n", "gives no mark"),
]


@pytest.mark.parametrize(("text", "said"), MARKS_WRONG, ids=[m[1][:30] for m in MARKS_WRONG])
def test_marks_that_are_wrong_exit_with_2_and_change_nothing(text, said, command, toy_class):
    (toy_class / "marks.csv").write_text(text)
    before = {p: p.read_bytes() for p in toy_class.rglob("*") if p.is_file()}
    outcome = command("gradebook", "manual", "toy", "marks.csv")
    assert outcome.code == 2, outcome
    assert re.search(said, outcome.err), outcome.err
    assert outcome.err.count("\n") == 1
    assert {p: p.read_bytes() for p in toy_class.rglob("*") if p.is_file()} == before
