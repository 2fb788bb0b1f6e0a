"""Trees of the course: which one counts here, and what kind it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from autograder.assignment import UsageError

RECORD = ".mlsys-lab.json"


def course_root(start: Path | None = None) -> Path:
    """The tree whose checks and assignments count here.

    In this order: the environment's MLSYS_LAB_COURSE; the nearest folder upwards with `labs/checks` or an
    assignment; the repository beside this package; the course bundled in the wheel.

    Raises:
        UsageError: there is none.
    """
    named = os.environ.get("MLSYS_LAB_COURSE")
    if named:
        if not is_tree(Path(named)):
            raise UsageError(f"MLSYS_LAB_COURSE={named} holds neither labs/checks nor an assignment")
        return Path(named).resolve()
    here = (start or Path.cwd()).resolve()
    package = Path(__file__).resolve().parent
    for folder in (here, *here.parents, package.parent, package / "course"):
        if is_tree(folder):
            return folder
    raise UsageError(
        "no labs and no assignments here: run this inside the course's folder, or set MLSYS_LAB_COURSE"
    )


def is_tree(folder: Path) -> bool:
    """Does a folder hold labs with checks, or an assignment?"""
    return (folder / "labs" / "checks").is_dir() or any((folder / "assignments").glob("*/assignment.toml"))


def is_students(folder: Path) -> bool:
    """Is a folder one that students get or work in, without solutions?"""
    return (folder / RECORD).is_file()


def is_workspace(folder: Path) -> bool:
    """Is a folder one that `make_workspace` wrote, to be worked in?"""
    return (folder / RECORD).is_file() and read_record(folder).get("kind") == "workspace"


def read_record(folder: Path) -> dict[str, Any]:
    """What a tree that students have says of itself; empty where a folder is none.

    Raises:
        UsageError: the record is damaged.
    """
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("files", {}), dict):
        raise UsageError(
            f"{path} is not ours, or damaged: restore it, or move it away and have the files kept"
        )
    return record
