"""What a grading leaves on disk: results.json and report.html per submission, gradebook.csv and summary.json.

results.json has the fields that Gradescope documents (Autograder Specifications, "Output Format"). Files are
written beside their final place and moved there, so that a full disk or Ctrl-C leaves whole files or none.
Everything that a student wrote is escaped for where it goes: HTML, a spreadsheet, a terminal.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from autograder.assignment import Assignment
from autograder.files import write_whole
from autograder.grade import Graded, to_json
from autograder.sender import NO_SUBMISSION
from autograder.submission import printable


def write_submission(graded: Graded, assignment: Assignment, out: Path, facts: Mapping[str, Any]) -> None:
    """Write one submission's results.json and report.html.

    Args:
        out: the grading's folder; the files go to `out/NAME/`.
        facts: `version`, `sandbox` and what else the report's foot says.

    Raises:
        OSError: the disk is full or not writable.
    """
    folder = out / graded.name
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "results.json", json.dumps(gradescope(graded), indent=1, ensure_ascii=True))
    write_whole(folder / "report.html", html_report(graded, assignment, facts))


def gradescope(graded: Graded) -> dict[str, Any]:
    """The result in Gradescope's fields; ours besides are under `extra_data`."""
    tests: list[dict[str, Any]] = [
        {
            "name": f"{t.question}: {t.title}" + (" (hidden)" if t.hidden else ""),
            "score": t.score,
            "max_score": t.max_score,
            "status": "passed" if t.score == t.max_score else "failed",
            "output": "\n".join([t.message, *t.detail]),
            "visibility": "visible",
        }
        for t in graded.tests
    ]
    if graded.clean_start is not None:
        tests.append(
            {
                "name": "The notebook runs from a clean start",
                "score": graded.clean_start,
                "max_score": graded.clean_start_points,
                "output": graded.clean_start_message,
                "visibility": "visible",
            }
        )
    return {
        "score": graded.score,
        "execution_time": round(graded.seconds),
        "output": "\n".join([graded.message, *graded.notes]).strip(),
        "output_format": "text",
        "visibility": "visible",
        "tests": tests,
        "extra_data": to_json(graded),
    }


def html_report(graded: Graded, assignment: Assignment, facts: Mapping[str, Any]) -> str:
    """A page for the student: self-contained, escaped, readable without colour or scripts."""
    titles = {key: q.title for key, q in assignment.questions.items()}
    text: str = _template().render(
        graded=graded, assignment=assignment, titles=titles, questions=graded.by_question(), facts=facts
    )
    return text


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("autograder"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["points"] = lambda value: f"{value:g}"
    environment.filters["plain"] = plain
    return environment.get_template("report.html")


def plain(text: str) -> str:
    """Text as it can be shown anywhere: escape sequences and control characters gone, line ends kept."""
    without_escapes = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)", "", text)
    return "\n".join(printable_line(line) for line in re.split(r"\r\n|\r|\n", without_escapes))


def printable_line(line: str) -> str:
    """One line without control characters, its indentation kept."""
    body = line.replace("\t", "    ")
    return " " * (len(body) - len(body.lstrip(" "))) + printable(body)


def write_class(rows: Iterable[Graded], assignment: Assignment, out: Path, facts: Mapping[str, Any]) -> None:
    """Write gradebook.csv and summary.json of all submissions graded so far."""
    graded = list(rows)
    write_whole(out / "gradebook.csv", gradebook(graded, assignment))
    summary = {
        "assignment": assignment.name,
        "version": facts["version"],
        "sandbox": facts["sandbox"],
        "submissions": [summary_row(g) for g in graded],
    }
    write_whole(out / "summary.json", json.dumps(summary, indent=1, ensure_ascii=True) + "\n")


def earlier_gradebooks(out: Path) -> list[Path]:
    """The gradebooks of other sets of hand-ins that were graded into this folder, oldest first."""
    found = [p for p in out.glob("earlier-gradebook-*.csv") if p.stem.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda p: int(p.stem.rpartition("-")[2]))


def keep_earlier(out: Path, names: set[str]) -> None:
    """Put the class files of another set of hand-ins aside, numbered: grading one more loses nobody's row."""
    try:
        rows = json.loads((out / "summary.json").read_text(encoding="utf-8"))["submissions"]
        others = {row["name"] for row in rows if row["message"] != NO_SUBMISSION} - names
    except (OSError, ValueError, KeyError, TypeError):
        return
    if others:
        number = 1 + max((int(p.stem.rpartition("-")[2]) for p in earlier_gradebooks(out)), default=0)
        for name in ("summary.json", "gradebook.csv"):
            stem, dot, ending = name.partition(".")
            with suppress(FileNotFoundError):
                (out / name).replace(out / f"earlier-{stem}-{number}{dot}{ending}")


def summary_row(graded: Graded) -> dict[str, Any]:
    """One submission in summary.json: names and types here are a contract."""
    return {
        "name": graded.name,
        "student": graded.student,
        "counted": graded.counted,
        "score": graded.score,
        "max_score": graded.max_score,
        "manual_score": graded.manual_score,
        "status": graded.status,
        "message": graded.message,
        "seconds": graded.seconds,
        "ids": list(graded.sender.ids),
        "login": graded.sender.login,
        "email": graded.sender.email,
        "roster": graded.sender.match,
        "late_days": graded.late_days,
        "deducted": graded.deducted,
        "final": graded.final,
        "possible": graded.possible,
    }


def gradebook(graded: list[Graded], assignment: Assignment) -> str:
    """The class as CSV, a column per question; what a spreadsheet would run gets an apostrophe."""
    columns = list(dict.fromkeys([*assignment.questions, *(q for g in graded for q in g.by_question())]))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    first = ["student", "name", "counted", "score", "max_score", "manual_score"]
    last = ["late_days", "deducted", "final", "ids", "login", "email", "section", "roster", "attempt"]
    writer.writerow([*first, *columns, "clean_start", "status", "message", *last])
    for g in graded:
        points = {key: f"{earned:g}" for key, (earned, _) in g.by_question().items()}
        clean = "" if g.clean_start is None else f"{g.clean_start:g}"
        manual = "" if g.manual_score is None else f"{g.manual_score:g}"
        row = [g.student, g.name, "yes" if g.counted else "no", f"{g.score:g}", f"{g.max_score:g}", manual]
        row += [*(points.get(c, "") for c in columns), clean, g.status, g.message]
        who = g.sender
        row += [f"{g.late_days}", f"{g.deducted:g}", f"{g.final:g}"]
        row += [" ".join(who.ids), who.login, who.email, who.section, who.match, f"{who.attempt or ''}"]
        writer.writerow([spreadsheet_cell(value) for value in row])
    return stream.getvalue()


def spreadsheet_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    shown = printable(text)
    return "'" + shown if shown[:1] in ("=", "+", "-", "@") and not _is_number(shown) else shown


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", text) is not None
