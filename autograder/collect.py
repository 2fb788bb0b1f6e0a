"""Who handed in what: an export of Canvas, Gradescope or Moodle, or any naming, becomes submissions.

The export is an archive as it was downloaded, or its unpacked folder; it is looked into as safely as a
student's own archive. What does not have the source's shape, or is of another homework or another course, is
refused before anything is graded. One bad hand-in among good ones is one row that says so.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path, PurePosixPath

from autograder.archive import UnsafeArchive, is_archive, read_class_archive
from autograder.assignment import Assignment, UsageError
from autograder.naming import printable, safe_name
from autograder.roster import Roster
from autograder.sources import Files, Hand, check_source, hands
from autograder.submission import (
    KINDS,
    LITTER,
    MOST_ERROR_CHARACTERS,
    MOST_NOTEBOOK_BYTES,
    Submission,
    collect,
    in_order,
    pick,
    read_one,
    which,
)

_HOMEWORK = re.compile(r"(?<![a-z0-9])([a-z]+\d+)(?![a-z0-9])")


def gather(
    paths: Sequence[Path], assignment: Assignment, *, source: str = "files", roster: Roster | None = None
) -> list[Submission]:
    """Find every submission in what was named on the command line, and who sent it.

    Args:
        paths: as for `submission.collect`, or one or more exports of a course system.
        source: `files`, `canvas`, `gradescope`, `moodle` or a regular expression with the group `student`.
        roster: whom to match; its students without a submission get a row too.

    Returns:
        In the order of students, with unique names; of a student's several, the newest has `counted`.

    Raises:
        UsageError: the source is unknown, an export has not its shape, or is of another homework or course.
    """
    check_source(source)
    if source == "files":
        found = collect(paths, assignment)
    else:
        found = [s for path in paths for s in _of_export(path, source, assignment)]
    if roster is not None:
        matched = roster.match(found)
        if source != "files" and not any(s.sender.key.startswith("roster:") for s in matched):
            raise UsageError(
                f"none of the {len(found)} hand-ins in {paths[0]} is of a student of {roster.path}: is it "
                f"the export of another course? Found {found[0].student!r}, expected {roster.example!r} or so"
            )
        found = [*matched, *roster.missing(matched)]
    return in_order(_told_apart(found))


def _of_export(path: Path, source: str, assignment: Assignment) -> list[Submission]:
    if not path.exists():
        raise UsageError(f"there is no file {path}: nothing to grade")
    files = _class_folder(path) if path.is_dir() else _class_archive(path, source)
    sorted_ = hands(source, files, where=str(path))
    _of_this_homework(sorted_, assignment, path)
    modified = path.stat().st_mtime
    return [_submission(hand, assignment.source.stem, f"{path}:{hand.place}", modified) for hand in sorted_]


def _class_archive(path: Path, source: str) -> Files:
    if not is_archive(path):
        raise UsageError(f"{path} is no archive and no folder: name the export that --from {source} gave")
    try:
        return {p: data for p, data in read_class_archive(path).items() if not _hidden(p)}
    except UnsafeArchive as error:
        raise UsageError(f"{path}: {error}") from None


def _hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part in LITTER for part in path.parts)


def _class_folder(path: Path) -> Files:
    """An unpacked export; a symbolic link in it is refused, as it is in an archive."""
    files: dict[PurePosixPath, bytes | None] = {}
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not _hidden(PurePosixPath(name)))
        for name in sorted(name for name in names if not _hidden(PurePosixPath(name))):
            file = Path(folder, name)
            inside = PurePosixPath(file.relative_to(path).as_posix())
            if file.is_symlink() or not file.is_file():
                raise UsageError(f"{path} holds {printable(str(inside))}, a link or no file: remove it")
            read = file.suffix.lower() in (*KINDS, ".yml") or is_archive(file)
            large = read and file.stat().st_size > MOST_NOTEBOOK_BYTES
            files[inside] = None if large else file.read_bytes() if read else b""
        if any(Path(folder, name).is_symlink() for name in folders):
            raise UsageError(f"{path} holds a folder that is a symbolic link: put the files there themselves")
    return files


def _of_this_homework(found: Iterable[Hand], assignment: Assignment, path: Path) -> None:
    """Refuse an export whose notebooks are named for another homework (`hw2.ipynb` where hw1 is graded)."""
    kind = assignment.name.rstrip("0123456789")
    if kind == assignment.name:
        return
    names = [p.stem.lower() for h in found for p in h.files if p.suffix.lower() in KINDS or is_archive(p)]
    said = [{n for n in _HOMEWORK.findall(name) if n.rstrip("0123456789") == kind} for name in names]
    others = [min(s) for s in said if s and assignment.name not in s]
    if others and not any(assignment.name in s for s in said) and 2 * len(others) >= len(names):
        raise UsageError(
            f"{path}: expected hand-ins of {assignment.name}, found {len(others)} of {len(names)} named "
            f"{max(set(others), key=others.count)}: is it the export of another homework?"
        )


def _submission(hand: Hand, stem: str, origin: str, modified: float) -> Submission:
    """The one file to grade among a student's, or the line that says why there is none."""
    row = Submission(
        name=safe_name(hand.name),
        student=printable(hand.student) or "unnamed",
        origin=printable(origin),
        modified=_when(hand, modified),
        sender=hand.sender,
    )
    if hand.error:
        return replace(row, error=hand.error)
    notebooks = {p: d for p, d in hand.files.items() if p.suffix.lower() in KINDS}
    archives = {p: d for p, d in hand.files.items() if is_archive(p)}
    chosen = pick(notebooks, stem)
    if chosen is None and not notebooks and archives:
        return _unpacked(row, archives, stem)
    if chosen is None:
        others = [p.suffix or p.name for p in hand.files if p not in notebooks]
        said = f"; {', '.join(sorted(set(others))[:3])} is no notebook" if others and not notebooks else ""
        return replace(row, error=(which(notebooks, stem) + said)[:MOST_ERROR_CHARACTERS])
    data = notebooks[chosen]
    if data is None:
        return replace(
            row, error=f"larger than {MOST_NOTEBOOK_BYTES >> 20} MiB: clear the outputs and save again"
        )
    return replace(row, data=data, kind=chosen.suffix.lower())


def _unpacked(row: Submission, archives: dict[PurePosixPath, bytes | None], stem: str) -> Submission:
    """A student's own archive within the export; it is read as one that lies in a folder."""
    named = [p for p in archives if p.name.partition(".")[0] == stem]
    fitting = named if len(named) == 1 else list(archives)
    if len(fitting) > 1:
        return replace(row, error=f"holds {len(fitting)} archives: keep the one to grade")
    data = archives[fitting[0]]
    if data is None:
        return replace(row, error=f"larger than {MOST_NOTEBOOK_BYTES >> 20} MiB: hand in the notebook alone")
    with tempfile.TemporaryDirectory(prefix="mlsys-lab-") as folder:
        path = Path(folder, "archive" + "".join(PurePosixPath(fitting[0]).suffixes[-2:]))
        path.write_bytes(data)
        inner = read_one(path, stem)
    return replace(row, data=inner.data, kind=inner.kind, error=inner.error)


def _when(hand: Hand, modified: float) -> float:
    """What tells a student's newest hand-in: the time it was sent, else the number of the attempt."""
    if hand.sender.sent_at:
        return datetime.fromisoformat(hand.sender.sent_at).timestamp()
    return modified + hand.sender.attempt


def _told_apart(found: Sequence[Submission]) -> list[Submission]:
    """Two people of one name get what tells them apart behind it."""
    owners: dict[str, set[str]] = {}
    for s in found:
        owners.setdefault(s.student.casefold(), set()).add(s.owner)
    return [
        replace(s, student=f"{s.student} ({s.sender.ids[0] if s.sender.ids else s.owner})")
        if len(owners[s.student.casefold()]) > 1
        else s
        for s in found
    ]
