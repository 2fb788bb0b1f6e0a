"""The weekly papers: a file to fill in for each, made from one list and one template."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autograder.assignment import UsageError

HOME = "assignments/reading"
KEYS = ("number", "subject", "labs", "authors", "title", "venue", "link", "questions")


def reading_files(root: Path) -> dict[str, bytes]:
    """What students get of the readings of a course, by relative path.

    Args:
        root: an instructor's course, with `papers.toml` and the templates, or a student's tree, with the
            weeks' files themselves.

    Returns:
        Nothing where the course has no readings. The key to the questions is never among it.

    Raises:
        UsageError: the list lacks something; the line names the week.
    """
    folder = root / HOME
    if not (folder / "papers.toml").is_file():
        files = [*sorted(folder.glob("week[0-9][0-9].md")), *folder.glob("README.md")]
        return {f"{HOME}/{path.name}": path.read_bytes() for path in files}
    template = (folder / "template.md").read_text(encoding="utf-8")
    page = (folder / "readme.md").read_text(encoding="utf-8")
    weeks = papers(folder / "papers.toml")
    found = {f"{HOME}/week{w['number']:02d}.md": week_text(w, template).encode() for w in weeks}
    rows = "\n".join(
        f"| [{w['number']}](week{w['number']:02d}.md) | {w['subject']} | {_short(w['authors'])}, "
        f"[{w['title']}]({w['link']}) | {_labs(w['labs'])} |"
        for w in weeks
    )
    return found | {f"{HOME}/README.md": page.replace("{rows}", rows).encode()}


def papers(path: Path) -> list[dict[str, Any]]:
    """The list of papers, in the order of weeks.

    Raises:
        UsageError: it is not valid, or a week lacks something.
    """
    try:
        weeks: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8")).get("week", [])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    for n, week in enumerate(weeks, start=1):
        missing = [key for key in KEYS if not week.get(key)]
        if missing or week["number"] != n or len(week["questions"]) != 2:
            said = f"has no {', '.join(missing)}" if missing else "is out of order or has not two questions"
            raise UsageError(f"{path}: entry {n} {said}")
    return weeks


def week_text(week: Mapping[str, Any], template: str) -> str:
    """One week's file to fill in."""
    first, second = week["questions"]
    values = {**week, "labs": _labs(week["labs"]), "question_1": first, "question_2": second}
    text = template
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", str(value))
    return text


def _labs(numbers: list[str]) -> str:
    *first, last = numbers
    return f"labs {', '.join(first)} and {last}" if first else f"lab {last}"


def _short(authors: str) -> str:
    first, *others = authors.split(", ")
    return f"{first} and others" if len(others) > 2 else authors
