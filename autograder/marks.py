"""What an instructor gives by hand: points of written answers, days late that are known or excused.

The marks of a grading lie beside its grades in `manual.json`, each with a hash of the hand-in that was read:
a newer hand-in of the same student has no mark until somebody has read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from autograder.assignment import UsageError
from autograder.files import write_whole

NAME = "manual.json"


@dataclass(frozen=True)
class Mark:
    """One hand-in's mark.

    Attributes:
        hand_in: the fingerprint of what was read.
        score: points of the written answers; None where only the days are given.
        late_days: instead of what the source says; None to leave that.
    """

    hand_in: str
    score: float | None = None
    late_days: int | None = None


def read_marks(folder: Path) -> dict[str, Mark]:
    """The marks of a grading, by the name of the submission.

    Raises:
        UsageError: the file is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return {}
    try:
        return {str(k): Mark(**v) for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        raise UsageError(f"{path} is damaged: remove it, then read the CSV of the marks in again") from None


def write_marks(folder: Path, marks: Mapping[str, Mark]) -> None:
    """Keep the marks of a grading.

    Raises:
        OSError: the disk is full or not writable.
    """
    table = {name: asdict(mark) for name, mark in sorted(marks.items())}
    write_whole(folder / NAME, json.dumps(table, indent=1, ensure_ascii=True) + "\n")
