"""A newer release over a tree in which somebody works: planned in memory, then written all or nothing.

A file as an earlier release wrote it is renewed. A notebook with work in it is merged by cell, any other file
that was changed is replaced, and both leave their former selves beside them under a name that nothing had
before. A page that students fill in stays, and so does a file that the release does not have.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from autograder.assignment import UsageError
from autograder.files import write_whole
from autograder.merge_cells import Merged
from autograder.merge_notebook import Side, cell_marks, merge_pair
from autograder.reading import HOME
from autograder.tree import RECORD, read_record

#: Pages in which students write: what they wrote stays.
FILLED_IN = re.compile(re.escape(HOME) + r"/week\d+\.md")


@dataclass(frozen=True)
class Change:
    """One file to write; `before` is None where there is none, `backup` None where nothing is lost."""

    path: Path
    data: bytes
    before: bytes | None = None
    backup: Path | None = None


@dataclass
class Plan:
    """What an update would do to one tree: relative paths by what becomes of them."""

    folder: Path
    changes: list[Change] = field(default_factory=list)
    pairs: list[tuple[Path, Path]] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    renewed: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    merged: dict[str, tuple[Merged, str]] = field(default_factory=dict)

    def backups(self) -> dict[str, str]:
        """Where the former selves go, by path."""
        inside = {c.path.relative_to(self.folder).as_posix(): c.backup for c in self.changes if c.backup}
        return {path: backup.relative_to(self.folder).as_posix() for path, backup in inside.items()}


def plan_update(files: Mapping[str, bytes], into: Path, was: str) -> Plan:
    """Work out what a release does to a tree; nothing is written.

    Args:
        files: the release's files by relative path, with forward slashes.
        into: the tree; its record tells what earlier releases wrote.
        was: the release that the tree is of, named by its backups.

    Raises:
        UsageError: a notebook cannot be read, or a file or its folder may not be written.
    """
    record = read_record(into)
    hashes: dict[str, Any] = dict(record.get("files") or {})
    known = record.get("cells") if isinstance(record.get("cells"), dict) else {}
    plan = Plan(into)
    for unit in _units(files):
        sides = [_side(into / path, files[path], hashes.get(path)) for path in unit]
        wanted = [files[path] for path in unit]
        if sides[0].touched and FILLED_IN.fullmatch(unit[0]):
            plan.kept += [] if same_as_recorded(wanted[0], hashes.get(unit[0])) else unit
            continue
        if len(unit) == 2 and any(side.touched for side in sides):
            done = merge_pair(
                sides[0], sides[1], (wanted[0], wanted[1]), (known or {}).get(unit[0], []), unit[0]
            )
            wanted = [done.notebook, done.text]
            if any(side.data != data for side, data in zip(sides, wanted, strict=True)):
                plan.merged[unit[0]] = done.merged, done.note
        for path, side, data in zip(unit, sides, wanted, strict=True):
            if side.data == data or (len(unit) == 1 and side.data is not None and _same(side.data, data)):
                continue
            what = plan.created if side.data is None else plan.replaced if side.touched else plan.renewed
            if unit[0] not in plan.merged:
                what.append(path)
            backup = _free_name(into / path, was) if side.touched else None
            plan.changes.append(Change(into / path, data, side.data, backup))
        if len(unit) == 2:
            plan.pairs.append((into / unit[0], into / unit[1]))
    _check_writable(plan.changes)
    fresh: dict[str, Any] = {**record, "files": dict(sorted({**hashes, **_hashes(files)}.items()))}
    marks = cell_marks(files, known or {})
    fresh |= {"cells": marks} if marks else {}
    if fresh != record:
        text = json.dumps(fresh, indent=1) + "\n"
        plan.changes.append(Change(into / RECORD, text.encode(), (into / RECORD).read_bytes()))
    return plan


def apply(plans: Sequence[Plan]) -> None:
    """Carry plans out: every file of them, or none.

    Raises:
        UsageError: the disk is full, or something may not be written; all is as it was.
    """
    changes = [change for plan in plans for change in plan.changes]
    parts, backups, replaced = [], [], []
    try:
        for change in changes:
            change.path.parent.mkdir(parents=True, exist_ok=True)
            real = _real(change.path)
            part = real.with_name(f".{real.name}.{os.getpid()}.part")
            parts.append(part)
            part.write_bytes(change.data)
            if change.before is not None:
                shutil.copymode(real, part)
        for change in changes:
            if change.backup is not None and change.before is not None:
                with change.backup.open("xb") as stream:
                    backups.append(change.backup)
                    stream.write(change.before)
        for change, part in zip(changes, parts, strict=True):
            replaced.append(change)
            os.replace(part, _real(change.path))
    except BaseException as error:
        for change in replaced:
            with suppress(OSError):
                _put_back(change)
        for path in (*parts, *backups):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            where = error.filename or plans[0].folder
            raise UsageError(
                f"cannot write {where}: {error.strerror or error}. Nothing was changed; free some space, or "
                "make the folder writable"
            ) from None
        raise
    for plan in plans:
        written = {change.path for change in plan.changes}
        for pair in plan.pairs:
            if written & set(pair):  # Jupytext refuses a pair whose .py is older than its notebook
                for path in pair:
                    os.utime(path)


def same_as_recorded(data: bytes, written: Any) -> bool:
    """Is a file as a release wrote it? git on Windows may have changed the ends of its lines."""
    return written in (_hash(data), _hash(_unix(data)))


def _put_back(change: Change) -> None:
    if change.before is None:
        change.path.unlink(missing_ok=True)
    elif change.path.read_bytes() != change.before:
        write_whole(_real(change.path), change.before)


def _units(files: Mapping[str, bytes]) -> Iterator[list[str]]:
    """The release's paths: a notebook together with its .py, the notebook first."""
    for path in files:
        twin = str(PurePosixPath(path).with_suffix(".py"))
        if path.endswith(".ipynb") and twin in files:
            yield [path, twin]
        elif not (path.endswith(".py") and str(PurePosixPath(path).with_suffix(".ipynb")) in files):
            yield [path]


def _side(path: Path, new: bytes, written: Any) -> Side:
    if path.is_dir():
        raise UsageError(f"{path} is a folder, and the release has a file of that name: move it away")
    if not path.is_file():
        return Side()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}. Nothing was changed") from None
    untouched = same_as_recorded(data, written) or _same(data, new)
    return Side(data, not untouched, path.stat().st_mtime_ns)


def _free_name(path: Path, was: str) -> Path:
    """A name beside the file that nothing has; its ending is no notebook's and no test's."""
    number = 1
    while True:
        ending = f".{was}.bak" if was else ".bak"
        found = path.with_name(path.name + ending + (f"-{number}" if number > 1 else ""))
        if not os.path.lexists(found):
            return found
        number += 1


def _check_writable(changes: Sequence[Change]) -> None:
    """Refuse what is marked read-only, whoever asks: replacing a file would pass over its own mark."""
    for change in changes:
        folder = change.path.parent
        if change.before is not None and not change.path.stat().st_mode & stat.S_IWUSR:
            raise UsageError(f"{change.path} is read-only: make it writable. Nothing was changed")
        if folder.is_dir() and not folder.stat().st_mode & stat.S_IWUSR:
            what = "no backup can be put beside" if change.backup else "nothing can be written at"
            raise UsageError(f"{what} {change.path}: its folder is read-only. Nothing was changed")


def _real(path: Path) -> Path:
    """Where a file lies: a link stays one."""
    return Path(os.path.realpath(path))


def _same(data: bytes, other: bytes) -> bool:
    """Equal but for the ends of lines, which git changes on Windows."""
    return data == other or _unix(data) == _unix(other)


def _unix(data: bytes) -> bytes:
    return data if b"\0" in data else data.replace(b"\r\n", b"\n")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    return {path: _hash(data) for path, data in files.items()}
