"""What was handed in: files, folders and archives become submissions, each with a name that is safe to write.

A folder or archive with a notebook or .py at its top is one submission; otherwise each entry in it is one.
What cannot be read becomes a submission with an error: one bad hand-in gives one clear row and touches no
other.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from autograder.archive import UnsafeArchive, is_archive, read_archive
from autograder.assignment import Assignment

#: A notebook larger than this is not read: its outputs belong cleared.
MOST_NOTEBOOK_BYTES = 32 << 20
KINDS = (".ipynb", ".py")


@dataclass(frozen=True)
class Submission:
    """One hand-in.

    Attributes:
        name: the stem of what was handed in, sanitised and unique in the class; its report folder's name.
        student: the part before the first `_`, as handed in.
        origin: where it lies, for people to read.
        data: the notebook's or file's bytes; empty where `error` says why there is none.
        kind: `.ipynb` or `.py`.
        modified: seconds since 1970, to tell a student's newest hand-in.
        counted: the newest of this student's.
    """

    name: str
    student: str
    origin: str
    data: bytes = b""
    kind: str = ""
    error: str = ""
    modified: float = 0.0
    counted: bool = True

    def fingerprint(self) -> str:
        """A hash of what was handed in: equal fingerprints need grading once."""
        return hashlib.sha256(
            self.kind.encode() + b"\0" + self.error.encode() + b"\0" + self.data
        ).hexdigest()[:16]


def collect(paths: Iterable[Path], assignment: Assignment) -> list[Submission]:
    """Find every submission in what was named on the command line.

    Args:
        paths: notebooks, .py files, archives, or folders of these.
        assignment: its source's name tells which file of a folder is the hand-in.

    Returns:
        In the order of names; unique names; of a student's several, the newest has `counted`.
    """
    found: list[Submission] = []
    for path in paths:
        found += _from_path(path, assignment.source.stem)
    return _counted(
        _unique(sorted(found, key=lambda s: (s.student.casefold(), s.name.casefold(), s.modified)))
    )


def _from_path(path: Path, stem: str) -> list[Submission]:
    if path.is_symlink() and not path.exists():
        return [_bad(path.name, path, "the link leads nowhere")]
    if not path.exists():
        return [_bad(path.name, path, f"there is no file {path}")]
    if path.is_dir():
        return _from_folder(path, stem)
    if is_archive(path):
        return _from_archive(path, stem)
    return [_from_file(path)]


def _from_file(path: Path) -> Submission:
    if path.suffix.lower() not in KINDS:
        return _bad(
            path.name, path, f"{path.suffix or 'a file without ending'} is no notebook: hand in .ipynb or .py"
        )
    if not path.is_file():
        return _bad(path.name, path, "this is no regular file")
    if path.stat().st_size > MOST_NOTEBOOK_BYTES:
        return _bad(
            path.name, path, f"larger than {MOST_NOTEBOOK_BYTES >> 20} MiB: clear the outputs and save again"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        return _bad(path.name, path, f"cannot be read: {error.strerror}")
    return _good(path.name, str(path), data, path.suffix.lower(), path.stat().st_mtime)


def _from_folder(path: Path, stem: str) -> list[Submission]:
    files = {
        PurePosixPath(p.relative_to(path).as_posix()): p
        for p in sorted(path.rglob("*"))
        if not any(part.startswith(".") for part in p.relative_to(path).parts)
    }
    notebooks = {p: f for p, f in files.items() if p.suffix.lower() in KINDS}
    chosen = _own(notebooks, stem)
    if chosen is not None:
        return [replace(_from_file(notebooks[chosen]), **_named(path.name))]
    found = [
        s for p, f in files.items() if len(p.parts) == 1 and is_archive(f) for s in _from_archive(f, stem)
    ]
    for entry, own in _by_entry(notebooks).items():
        chosen = PurePosixPath(entry) if PurePosixPath(entry) in own else _best(own, stem)
        if chosen is None:
            found.append(_bad(entry, path / entry, _which(own, stem)))
        else:
            found.append(replace(_from_file(own[chosen]), **_named(entry)))
    empty = [
        f for p, f in files.items() if len(p.parts) == 1 and f.is_dir() and p.name not in _by_entry(notebooks)
    ]
    found += [_bad(f.name, f, _which({}, stem)) for f in empty]
    return found or [_bad(path.name, path, f"the folder holds no {stem}.ipynb or {stem}.py")]


def _from_archive(path: Path, stem: str) -> list[Submission]:
    if path.stat().st_size > MOST_NOTEBOOK_BYTES:
        return [
            _bad(path.name, path, f"larger than {MOST_NOTEBOOK_BYTES >> 20} MiB: hand in the notebook alone")
        ]
    try:
        members = read_archive(path)
    except UnsafeArchive as error:
        return [_bad(path.name, path, str(error))]
    files = {p: d for p, d in members.items() if p.suffix.lower() in KINDS and not p.parts[0].startswith(".")}
    modified = path.stat().st_mtime
    entries = _by_entry(files)
    # One student's archive: the hand-in at its top, or in the one folder that most tools pack, or all alone.
    chosen = _own(files, stem) or (_best(files, stem) if len(entries) == 1 else None)
    if chosen is not None:
        return [_good(path.name, f"{path}:{chosen}", files[chosen], chosen.suffix.lower(), modified)]
    if len(entries) < 2:
        return [_bad(path.name, path, _which(files, stem))]
    found = []
    for entry, own in entries.items():
        chosen = _best(own, stem)
        if chosen is None:
            found.append(_bad(entry, path / entry, _which(own, stem)))
        else:
            found.append(_good(entry, f"{path}:{chosen}", own[chosen], chosen.suffix.lower(), modified))
    return found


def _by_entry(files: Mapping[PurePosixPath, Any]) -> dict[str, dict[PurePosixPath, Any]]:
    """The files under each name at the top."""
    entries: dict[str, dict[PurePosixPath, Any]] = {}
    for path, content in sorted(files.items()):
        if ".ipynb_checkpoints" not in path.parts:
            entries.setdefault(path.parts[0], {})[path] = content
    return entries


def _own(files: Mapping[PurePosixPath, Any], stem: str) -> PurePosixPath | None:
    """The assignment's own notebook at the top, else its .py: a pair is handed in as its notebook."""
    return next((p for p in (PurePosixPath(stem + kind) for kind in KINDS) if p in files), None)


def _best(files: Mapping[PurePosixPath, Any], stem: str) -> PurePosixPath | None:
    """One student's hand-in among their files: that of the assignment's name, else the only one."""
    for kind in KINDS:
        fitting = [p for p in files if p.suffix.lower() == kind]
        named = [p for p in fitting if p.stem == stem]
        for choice in (named, fitting):
            if len(choice) == 1:
                return choice[0]
    return None


def _which(files: Mapping[PurePosixPath, Any], stem: str) -> str:
    if not files:
        return f"holds no {stem}.ipynb or {stem}.py"
    return f"holds {len(files)} notebooks or .py files and not one {stem}.ipynb: keep the one to grade"


def _good(name: str, origin: str, data: bytes, kind: str, modified: float) -> Submission:
    return Submission(origin=origin, data=data, kind=kind, modified=modified, **_named(name))


def _bad(name: str, path: Path, error: str) -> Submission:
    return Submission(origin=str(path), error=error, **_named(name))


def _named(raw: str) -> dict[str, Any]:
    stem = raw
    for ending in sorted(
        (*KINDS, ".zip", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar", ".tgz"), key=len, reverse=True
    ):
        if stem.lower().endswith(ending):
            stem = stem[: -len(ending)]
            break
    return {"name": safe_name(stem), "student": printable(stem.split("_")[0]) or "unnamed"}


def printable(text: str) -> str:
    """The text without control, format and direction characters, which a terminal would obey."""
    return "".join(c for c in text if unicodedata.category(c)[0] != "C").strip()


def safe_name(text: str) -> str:
    """A file name out of any text: letters (of any script), digits, `.-_`; never empty, hidden or too long.

    Example:
        >>> safe_name("=cmd() ../Ünal hw1")
        'cmd_Ünal_hw1'
    """
    plain = unicodedata.normalize("NFC", printable(text))
    kept = re.sub(r"[^\w.-]+", "_", plain).strip("._-")
    return re.sub(r"_*\.*(?<=[_.])\.+_*|_{2,}", "_", kept)[:100] or "submission"


def _unique(submissions: list[Submission]) -> list[Submission]:
    taken: set[str] = set()
    result = []
    for submission in submissions:
        name, n = submission.name, 1
        while name.casefold() in taken:  # file systems that ignore case keep both, too
            n += 1
            name = f"{submission.name}-{n}"
        taken.add(name.casefold())
        result.append(replace(submission, name=name))
    return result


def _counted(submissions: list[Submission]) -> list[Submission]:
    newest: dict[str, Submission] = {}
    for s in submissions:
        best = newest.get(s.student.casefold())
        if best is None or (not s.error, s.modified, s.name) >= (not best.error, best.modified, best.name):
            newest[s.student.casefold()] = s
    return [replace(s, counted=newest[s.student.casefold()] is s) for s in submissions]
