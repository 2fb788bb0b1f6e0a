"""The commands of `mlsys-lab gradebook`: Canvas' file, marks given by hand, the course's grade."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from autograder.assignment import UsageError

app = typer.Typer(
    name="gradebook",
    help="""From grades to a course's gradebook.

    Example: mlsys-lab gradebook canvas export.csv --assignment "HW1 (12345)" --grades grades/hw1 --out in.csv
    """,
    rich_markup_mode=None,
)

_COURSE = typer.Option("--course", metavar="TOML", help="Default: course.toml here, if any.")


@app.command()
def canvas(
    export: Annotated[Path, typer.Argument(metavar="EXPORT.csv", help="As Canvas' gradebook exported it.")],
    assignment: Annotated[str, typer.Option(metavar="COLUMN", help="Its column, as HW1 (12345).")],
    grades: Annotated[Path, typer.Option(metavar="DIR", help="What grade --out wrote.")],
    out: Annotated[Path, typer.Option(metavar="CSV", help="The file to import in Canvas.")],
) -> None:
    """Fill one column of Canvas' exported gradebook.

    Everything else in it stays as it is; who is missing on either side is listed.

    Example: mlsys-lab gradebook canvas export.csv --assignment "HW1 (12345)" --grades grades/hw1 --out in.csv
    """
    from autograder.canvas_gradebook import fill
    from autograder.grades import read_grades

    for line in fill(export, assignment, read_grades(grades), out):
        print(line)


@app.command()
def manual(
    context: typer.Context,
    homework: Annotated[str, typer.Argument(metavar="HW|FOLDER", help="The homework that was graded.")],
    marks: Annotated[Path, typer.Argument(metavar="CSV", help="With a column manual_score.")],
    grades: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: grades/HW.")] = None,
    course_toml: Annotated[Path | None, _COURSE] = None,
) -> None:
    """Read the marks of written answers into the grades.

    The CSV may be gradebook.csv with its manual_score filled in, or a list of your own with students' names,
    ids or logins; a column late_days corrects or excuses days late.

    Example: mlsys-lab gradebook manual hw1 marks.csv
    """
    from autograder.cli import need_packages
    from autograder.course_plan import load_plan
    from autograder.grades import read_grades
    from autograder.manual import give_marks

    need_packages(["jinja2"], "gradebook manual")
    assignment = context.find_root().obj.assignment(homework)
    folder = grades or Path("grades") / assignment.name
    found = read_grades(folder)
    if found.assignment != assignment.name:
        raise UsageError(f"{folder} holds grades of {found.assignment}, not of {assignment.name}")
    rule = load_plan(course_toml).rule(assignment.name)
    for line in give_marks(marks, assignment, found, rule):
        print(line)


@app.command()
def total(
    grades: Annotated[Path, typer.Argument(metavar="DIR", help="Holds hw1/, hw2/, lab00/.")] = Path("grades"),
    scores: Annotated[
        list[Path] | None, typer.Option(metavar="CSV", help="Readings and project parts; may be repeated.")
    ] = None,
    roster: Annotated[Path | None, typer.Option(metavar="CSV", help="The class list.")] = None,
    course_toml: Annotated[Path | None, _COURSE] = None,
    out: Annotated[Path, typer.Option(metavar="CSV", help="Where the table goes.")] = Path("total.csv"),
) -> None:
    """Add up the course's grade.

    Homework by weight, labs and readings by completion, a project instead of the homeworks that it replaces.

    Example: mlsys-lab gradebook total grades --scores readings.csv --scores project.csv --roster class.csv
    """
    from rich.console import Console

    from autograder.course_plan import load_plan
    from autograder.files import write_whole
    from autograder.roster import read_roster
    from autograder.screen import totals_table
    from autograder.totals import read_standings, totals, totals_csv

    folders = sorted(path.parent for path in grades.glob("*/summary.json"))
    if not folders:
        raise UsageError(f"{grades} holds no grades: name the folder in which grade wrote hw1/ and others")
    plan = load_plan(course_toml)
    people = read_roster(roster) if roster is not None else None
    found = totals(read_standings(folders, scores or [], plan, people), plan)
    try:
        write_whole(out, totals_csv(found))
    except OSError as error:
        raise UsageError(
            f"{out} cannot be written ({error.strerror}): name another file with --out"
        ) from None
    Console(width=None if sys.stdout.isatty() else 120).print(totals_table(found))
    print(f"Written: {out}")
