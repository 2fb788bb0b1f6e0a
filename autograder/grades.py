"""The grades that a grading left in its folder, read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.assignment import UsageError
from autograder.grade import Graded, from_json
from autograder.people import Index, Person


@dataclass(frozen=True)
class Grade:
    """The counted row of one student in summary.json."""

    name: str
    student: str
    ids: tuple[str, ...]
    login: str
    email: str
    score: float
    max_score: float
    final: float
    possible: float
    status: str
    message: str

    def found_in(self, index: Index) -> tuple[Person | None, str]:
        """The student in another list, and by what."""
        return index.find(
            ids=self.ids, email=self.email, logins=[self.login or self.student], names=[self.student]
        )


@dataclass(frozen=True)
class Grades:
    """What was graded into one folder."""

    folder: Path
    assignment: str
    facts: Mapping[str, Any]
    names: tuple[str, ...]
    counted: tuple[Grade, ...]


def read_grades(folder: Path) -> Grades:
    """Read a folder's summary.json.

    Raises:
        UsageError: there is none, or it is damaged or of an older release.
    """
    path = folder / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        rows = summary["submissions"]
        keys = Grade.__dataclass_fields__
        counted = [Grade(**{k: r[k] for k in keys} | {"ids": tuple(r["ids"])}) for r in rows if r["counted"]]
        names = tuple(str(r["name"]) for r in rows)
        facts = {"version": summary["version"], "sandbox": summary["sandbox"]}
        return Grades(folder, str(summary["assignment"]), facts, names, tuple(counted))
    except OSError:
        raise UsageError(
            f"{folder} holds no summary.json: name the folder that `grade --out` wrote"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is damaged or of an older release: grade into this folder again") from None


def read_rows(grades: Grades) -> list[Graded]:
    """Every submission's whole row.

    Raises:
        UsageError: the results of one are not there.
    """
    rows = []
    for name in grades.names:
        path = grades.folder / name / "results.json"
        try:
            rows.append(from_json(json.loads(path.read_text(encoding="utf-8"))["extra_data"]))
        except (OSError, ValueError, KeyError, TypeError):
            raise UsageError(f"{path} is missing or damaged: grade into {grades.folder} again") from None
    return rows
