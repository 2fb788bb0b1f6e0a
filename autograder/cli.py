"""The autograder's commands, mounted by `mlsys-lab`. Each imports what it needs when it runs."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from autograder.assignment import Assignment, UsageError, find, load_assignment
from autograder.gradebook_cli import app as gradebook

app = typer.Typer()
app.add_typer(gradebook)


@dataclass(frozen=True)
class Course:
    """Where things are: the course's root (labs, assignments) and the library's folder."""

    root: Path
    library: Path

    def assignment(self, name: str, *, private: Path | None = None) -> Assignment:
        """A homework or lab by name, or a homework by its folder.

        Raises:
            UsageError: there is none of that name.
        """
        folder = Path(name)
        if (folder / "assignment.toml").is_file():
            return load_assignment(folder.resolve(), private=private)
        if (self.root / "assignments" / name / "assignment.toml").is_file():
            return load_assignment(self.root / "assignments" / name, private=private)
        found = find(self.root)
        if name in found:
            return found[name]
        if folder.exists():
            raise UsageError(f"{name} is no homework: name one first, as in `mlsys-lab grade hw1 {name}`")
        known = ", ".join(found) or "none here"
        raise UsageError(f"there is no homework or lab {name!r}; there are: {known} (or name a folder)")


def _course(context: typer.Context) -> Course:
    course = context.find_root().obj
    assert isinstance(course, Course)
    return course


@app.command()
def grade(
    context: typer.Context,
    homework: Annotated[str, typer.Argument(metavar="HW|FOLDER", help="Homework to grade.")] = "",
    submissions: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SUBMISSION", help="Notebooks, .py, folders, archives."),
    ] = None,
    source: Annotated[
        str,
        typer.Option("--from", metavar="SOURCE", help="files, canvas, gradescope, moodle or a REGEX."),
    ] = "files",
    roster: Annotated[Path | None, typer.Option(metavar="CSV", help="The class list.")] = None,
    course_toml: Annotated[
        Path | None, typer.Option("--course", metavar="TOML", help="Default: course.toml here, if any.")
    ] = None,
    tests: Annotated[Path | None, typer.Option(metavar="DIR", help="More hidden tests.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: grades/HW. Resumes.")] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Submissions at a time.")] = os.cpu_count()
    or 1,
    sandbox: Annotated[str, typer.Option(metavar="LEVEL", help="auto, namespaces, uid or none.")] = "auto",
    nbval: Annotated[bool, typer.Option(help="Also run each notebook from the top.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print summary.json.")] = False,
) -> None:
    """Grade a class, each submission in a sandbox.

    With pytest on the tests, and with nbval on the notebook from a clean start.

    Without arguments: the bundled class of hw1.

    --from takes an export of a course system, as downloaded or unpacked; a REGEX matches each file's whole
    path and has a group student (?P<student>...), perhaps id, login, email, attempt, late.
    --course names the plan of the course: due times, late days, which attempt counts.
    --roster takes Canvas' exported gradebook or any CSV with columns such as name, id, login, email, section.

    Example: mlsys-lab grade hw1 submissions.zip --from canvas --roster class.csv
    """
    from rich.console import Console

    from autograder.classroom import Plan, grade_class
    from autograder.collect import gather
    from autograder.course_plan import load_plan
    from autograder.roster import read_roster
    from autograder.run_tests import BadTest, collect_tests
    from autograder.sandbox import available, choose
    from autograder.screen import Screen, closing, table

    course = _course(context)
    assignment = course.assignment(homework or "hw1", private=tests)
    bundled = not submissions
    if bundled and source != "files":
        raise UsageError(
            f"name the export after {assignment.name}, as in `{assignment.name} submissions.zip`"
        )
    paths = list(submissions or [assignment.folder / "samples"])
    if bundled and not paths[0].is_dir():
        raise UsageError(
            f"{assignment.name} has no bundled samples: name what to grade after {assignment.name}"
        )
    need_packages([*assignment.preload, *(["nbval", "ipykernel"] if nbval else [])], "grade")
    level = choose(sandbox)
    if level == "none" and sandbox != "none" and not bundled:
        raise UsageError(
            f"no sandbox works here, so the work of others is not run: {available()[0].why}; more in "
            "`mlsys-lab doctor`. Or accept the risk with --sandbox none"
        )
    if not any(Path(path).exists() for path in paths):
        raise UsageError(f"there is no file {paths[0]}: nothing to grade")
    rule = load_plan(course_toml).rule(assignment.name)
    people = read_roster(roster) if roster is not None else None
    found = gather(paths, assignment, source=source, roster=people)
    try:
        if not collect_tests([*assignment.public, *assignment.hidden]):
            raise BadTest("the files of its tests hold no test")
    except BadTest as error:
        raise UsageError(f"{assignment.name}: {error}") from None
    target = out or Path("grades") / assignment.name
    console = Console(stderr=True)
    for note in people.notes if people is not None else ():
        print(f"note: {note}", file=sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an end by a batch system is as Ctrl-C
    if level != "namespaces":
        console.print(f"Sandbox level: {level}. What that does not hold: mlsys-lab doctor", style="bold red")
    with Screen(len(found), console) as screen:
        plan = Plan(level, course.library, nbval, jobs, rule)
        try:
            rows = grade_class(found, assignment, plan, target, on_start=screen.started, on_done=screen.done)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; {target} has what was graded, the same command goes on"
            ) from None
    if as_json:
        print((target / "summary.json").read_text(encoding="utf-8"), end="")
        return
    Console(width=None if sys.stdout.isatty() else 120).print(table(rows))
    print(f"Sandbox: {level}. {closing(rows, target)}")


def need_packages(modules: Iterable[str], command: str) -> None:
    """Say which packages an environment that was set up for something else lacks."""
    tops = dict.fromkeys(module.partition(".")[0] for module in modules)
    missing = ", ".join(top for top in tops if importlib.util.find_spec(top) is None)
    if missing:
        raise UsageError(
            f"this environment has no {missing}: `python3 lab.py {command}` installs what it needs"
        )


class Interrupted(Exception):
    """Ctrl-C, with what to say; exit code 130."""


@app.command()
def verify(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="HW|LAB|all", help="What to verify.")] = "all",
    sandbox: Annotated[str, typer.Option(metavar="LEVEL", help="auto, namespaces, uid or none.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Show that a homework or lab can be released.

    The solution runs under nbval and earns full marks, every mutant loses the points it should, a planted
    error changes the score, the student version scores 0 and holds no solution.

    Example: mlsys-lab verify hw1
    """
    from autograder.sandbox import choose
    from autograder.tree import is_students
    from autograder.verify import verify as run

    course = _course(context)
    if is_students(course.root):
        raise UsageError("this is the students' repository: solutions are verified in the instructors' one")
    found = find(course.root)
    chosen = list(found.values()) if name == "all" else [course.assignment(name)]
    need_packages([m for a in chosen for m in a.preload] + ["nbval", "ipykernel"], "verify")
    level = choose(sandbox)
    outcomes: list[dict[str, Any]] = []
    for assignment in chosen:
        for finding in run(assignment, library=course.library, level=level):
            outcomes.append(finding.as_dict())
            if not as_json:
                print(f"{'ok  ' if finding.ok else 'FAIL'} {assignment.name}: {finding.claim}", flush=True)
                if finding.detail:
                    print("     " + "\n     ".join(finding.detail))
    if as_json:
        print(json.dumps(outcomes, indent=1))
    bad = sum(not o["ok"] for o in outcomes)
    if not as_json:
        print(f"{len(outcomes)} claims, {bad} do not hold")
    raise typer.Exit(1 if bad else 0)


@app.command()
def release(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="HW|LAB|all", help="What to release.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The student repository's folder.")],
) -> None:
    """Write the students' repository.

    Notebooks, public checks, the library as a wheel and, with all, the weekly readings; no solution.

    Example: mlsys-lab release all --out ../course-2027
    """
    from autograder.release import release as run

    course = _course(context)
    found = find(course.root)
    chosen = list(found.values()) if name == "all" else [course.assignment(name)]
    for line in run(chosen, out, course.root, readings=name == "all"):
        print(line)


@app.command()
def check(
    context: typer.Context,
    notebook: Annotated[
        Path | None, typer.Argument(metavar="NOTEBOOK|HW|LAB", help="Default: the one here.")
    ] = None,
) -> None:
    """Run the public checks on your own work.

    As its notebook would; without a sandbox.

    Example: mlsys-lab check hw1
    """
    from autograder.own_work import check_notebook

    ok = check_notebook(notebook, print)
    raise typer.Exit(0 if ok else 1)


@app.command()
def submit(
    context: typer.Context,
    homework: Annotated[str, typer.Argument(metavar="HW", help="The homework to hand in.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the archive goes.")] = Path("submissions"),
) -> None:
    """Make the archive that you hand in.

    Runs your notebook from a clean start and warns about what an instructor would see.

    Example: mlsys-lab submit hw1
    """
    from autograder.own_work import make_submission

    for line in make_submission(homework, out):
        print(line)


@app.command()
def update(
    context: typer.Context,
    newer: Annotated[
        Path | None, typer.Argument(metavar="RELEASE", help="Folder or zip; default: the course's folder.")
    ] = None,
) -> None:
    """Merge a newer release into your notebooks.

    Cell by cell: your answers and your own cells stay, all else becomes the release's. What was changed has
    its former self beside it, as hw1.ipynb.2026.1.bak.

    Example: mlsys-lab update ../course-2027.zip
    """
    from rich.console import Console

    from autograder.update import update as run

    lines: list[str] = []
    with Console(stderr=True).status("merging"):  # seen on a terminal alone
        run(newer, lines.append)
    print("\n".join(lines))


@app.command(name="open")
def open_(
    context: typer.Context,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    port: Annotated[int, typer.Option(metavar="P", min=0, max=65535, help="0: any free one.")] = 0,
) -> None:
    """Start JupyterLab on the notebooks in workspace/.

    Makes workspace/ or renews it.

    What you changed in workspace/ is never overwritten.

    Example: mlsys-lab open
    """
    from autograder.jupyter import open_lab

    raise typer.Exit(open_lab(no_browser=no_browser, port=port))
