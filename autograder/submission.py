"""What was handed in: files, folders and archives become submissions, each with a name that is safe to write.

A folder or archive with the assignment's own notebook or .py at its top is one submission; otherwise each
entry in it is one. An archive among others is always one, or it could speak for its neighbours. Nobody
vanishes: in a class's folder every entry that is not hidden gets a row, whatever it is; only what instructors
put there is passed over (files named `README*`, `*.toml`, `*.csv`) and what systems leave behind
(`__pycache__`, `__MACOSX`). A folder that holds its own notebook and also entries that are named as hand-ins
are (`ada_hw1.ipynb`, `ben_x/`) is a class's folder too. Symbolic links within a folder are refused. What
cannot be read becomes a submission with an error: one bad hand-in gives one clear row and touches no other.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from autograder.archive import ENDINGS, UnsafeArchive, is_archive, read_archive
from autograder.assignment import Assignment
from autograder.naming import printable as printable
from autograder.naming import safe_name as safe_name
from autograder.sender import NOBODY, Sender

#: A notebook larger than this is not read: its outputs belong cleared.
MOST_NOTEBOOK_BYTES = 32 << 20
MOST_ERROR_CHARACTERS = 300
KINDS = (".ipynb", ".py")
LITTER = ("__pycache__", "__MACOSX")
#: Names beside the reports: those of `report.write_class`, and of earlier ones that were put aside.
CLASS_FILES = re.compile(r"(gradebook|earlier-gradebook-\d+)\.csv|(summary|earlier-summary-\d+)\.json")


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
        sender: what a course system or the roster says of the student.
    """

    name: str
    student: str
    origin: str
    data: bytes = b""
    kind: str = ""
    error: str = ""
    modified: float = 0.0
    counted: bool = True
    sender: Sender = NOBODY

    @property
    def owner(self) -> str:
        """Equal for all hand-ins of one student."""
        return self.sender.key or self.student.casefold()

    def fingerprint(self) -> str:
        """A hash of what was handed in: equal fingerprints need grading once."""
        said = f"{self.kind}\0{self.error}\0".encode("utf-8", "surrogatepass")
        return hashlib.sha256(said + self.data).hexdigest()[:16]


def collect(paths: Iterable[Path], assignment: Assignment) -> list[Submission]:
    """Find every submission in what was named on the command line.

    Args:
        paths: notebooks, .py files, archives, or folders of these. The only one named may be a symbolic link
            or an archive of a whole class; of several, as a shell's `class/*` names them, each is a hand-in.
        assignment: its source's name tells which file of a folder is the hand-in.

    Returns:
        In the order of names; unique names; of a student's several, the newest has `counted`.
    """
    named = list(paths)
    read = _from_path if len(named) == 1 else _from_one_of_many
    found: list[Submission] = []
    for path in named:
        found += _netted(read, path, assignment.source.stem)
    return in_order(found)


def in_order(found: Iterable[Submission]) -> list[Submission]:
    """Hand-ins in the order of their students, names made unique; of one student's the newest counts."""
    return _counted(
        _unique(sorted(found, key=lambda s: (s.student.casefold(), s.name.casefold(), s.modified)))
    )


def _netted(read: Callable[[Path, str], list[Submission]], path: Path, stem: str) -> list[Submission]:
    """Read one hand-in; whatever goes wrong with it in a way that nobody foresaw is its own row's error."""
    try:
        return read(path, stem)
    except Exception as error:  # the hand-in's fault, and no reason to leave the class ungraded
        return [_bad(path.name, path, f"cannot be read ({type(error).__name__}): hand in the notebook alone")]


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


def _from_one_of_many(path: Path, stem: str) -> list[Submission]:
    """One of several paths: as in a class's folder, but that a folder may hold a class."""
    if path.is_symlink() and path.exists():
        return _link(path)
    if path.is_file() and is_archive(path):
        return _from_archive(path, stem, several=False)
    return _from_path(path, stem)


def _link(path: Path) -> list[Submission]:
    return [_bad(path.name, path, "is a symbolic link: put the file itself into the folder")]


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
    """A student's folder or a class's, as it was named on the command line."""
    entries = [entry for entry in sorted(path.iterdir()) if not _passed_over(entry.name, entry.is_dir())]
    entries = [entry for entry in entries if not _is_grading(entry)]
    own = [entry for entry in entries if entry.name in _own_names(stem)]
    others = [entry for entry in entries if _stem(entry.name) != stem and _like_a_hand_in(entry, stem)]
    if own and not others:
        return [replace(s, **_named(path.name)) for s in _netted(_from_student, path, stem)]
    if own:  # the first is graded, its pair is not; it stands under the folder's name
        found = [replace(s, **_named(path.name)) for s in _netted(_from_entry, own[0], stem)]
        entries = [entry for entry in entries if entry not in own]
    else:
        found = []
    lone = [entry for entry in entries if is_archive(entry) and _stem(entry.name) == stem]
    for entry in entries:
        rows = _netted(_from_entry, entry, stem)
        if entries == lone and len(rows) == 1:  # `nora/hw1.zip`: the folder has the student's name
            rows = [replace(rows[0], **_named(path.name))]
        found += rows
    return found or [_bad(path.name, path, f"the folder holds no {stem}.ipynb or {stem}.py")]


def _is_grading(entry: Path) -> bool:
    """Is it a folder of grades, written into the class's by an earlier grading?"""
    return (entry / "summary.json").is_file() and (entry / "gradebook.csv").is_file()


def _passed_over(name: str, folder: bool) -> bool:
    """Is an entry hidden, litter or an instructor's?"""
    if name.startswith(".") or name in LITTER:
        return True
    return not folder and (name.upper().startswith("README") or name.lower().endswith((".toml", ".csv")))


def _like_a_hand_in(entry: Path, stem: str) -> bool:
    name = _stem(entry.name)
    if entry.is_dir() and not entry.is_symlink():
        return "_" in name
    file = entry.suffix.lower() in KINDS or is_archive(entry)
    return file and "_" in name and stem.casefold() in name.casefold()  # not a student's own `my_plots.py`


def _from_entry(entry: Path, stem: str) -> list[Submission]:
    """One entry of a class's folder."""
    if entry.is_symlink():
        return _link(entry)
    if is_archive(entry) and entry.is_file():  # whatever names its members have, it speaks for one student
        return _from_archive(entry, stem, several=False)
    return _from_student(entry, stem) if entry.is_dir() else _from_path(entry, stem)


def _from_student(path: Path, stem: str) -> list[Submission]:
    """The one hand-in in a student's folder: a notebook or .py, or else an archive, at whatever depth."""
    files: dict[PurePosixPath, Path] = {}
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in LITTER)
        shown = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        if any(entry.is_symlink() for entry in (*shown, *(Path(folder, name) for name in folders))):
            return [_bad(path.name, path, "holds a symbolic link: put the file itself into the folder")]
        files.update({PurePosixPath(file.relative_to(path).as_posix()): file for file in shown})
    notebooks = {p: f for p, f in files.items() if p.suffix.lower() in KINDS}
    archives = {p: f for p, f in files.items() if is_archive(p)}
    chosen = pick(notebooks, stem)
    if chosen is not None:
        return [replace(_from_file(notebooks[chosen]), **_named(path.name))]
    if notebooks or not archives:
        return [_bad(path.name, path, which(notebooks, stem))]
    named = [f for p, f in archives.items() if _stem(p.name) == stem]
    fitting = named if len(named) == 1 else list(archives.values())
    if len(fitting) > 1:
        return [_bad(path.name, path, f"holds {len(fitting)} archives: keep the one to grade")]
    return [replace(s, **_named(path.name)) for s in _from_archive(fitting[0], stem, several=False)]


def read_one(path: Path, stem: str) -> Submission:
    """One student's archive; whatever its members are named, it speaks for nobody else."""
    (row,) = _netted(lambda p, s: _from_archive(p, s, several=False), path, stem)
    return row


def _from_archive(path: Path, stem: str, several: bool = True) -> list[Submission]:
    if not path.is_file():
        return [_bad(path.name, path, "this is no regular file")]
    if path.stat().st_size > MOST_NOTEBOOK_BYTES:
        return [
            _bad(path.name, path, f"larger than {MOST_NOTEBOOK_BYTES >> 20} MiB: hand in the notebook alone")
        ]
    try:
        members = read_archive(path)
    except UnsafeArchive as error:
        return [_bad(path.name, path, str(error))]
    seen = {p: d for p, d in members.items() if not _passed_over(p.parts[0], len(p.parts) > 1)}
    files = {p: d for p, d in seen.items() if p.suffix.lower() in KINDS}
    modified = path.stat().st_mtime
    entries = _by_entry(files)
    # One student's archive: the hand-in at its top, or in the one folder that most tools pack, or all alone.
    chosen = _own(files, stem) or (_best(files, stem) if len(entries) == 1 or not several else None)
    if chosen is not None:
        return [_good(path.name, f"{path}:{chosen}", files[chosen], chosen.suffix.lower(), modified)]
    if len(entries) < 2 or not several:
        return [_bad(path.name, path, which(files, stem))]
    found = []
    for entry in _by_entry(seen):
        own = entries.get(entry, {})
        chosen = _best(own, stem)
        if chosen is None:
            found.append(_bad(entry, path / entry, which(own, stem)))
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


def _own_names(stem: str) -> tuple[str, ...]:
    return tuple(stem + kind for kind in KINDS)


def pick(files: Mapping[PurePosixPath, Any], stem: str) -> PurePosixPath | None:
    """The one hand-in among a student's notebooks and .py files, if it is clear which."""
    return _own(files, stem) or _best(files, stem)


def _own(files: Mapping[PurePosixPath, Any], stem: str) -> PurePosixPath | None:
    """The assignment's own notebook at the top, else its .py: a pair is handed in as its notebook."""
    return next((p for p in map(PurePosixPath, _own_names(stem)) if p in files), None)


def _best(files: Mapping[PurePosixPath, Any], stem: str) -> PurePosixPath | None:
    """One student's hand-in among their files: that of the assignment's name, else the only one."""
    for kind in KINDS:
        fitting = [p for p in files if p.suffix.lower() == kind]
        named = [p for p in fitting if p.stem == stem]
        for choice in (named, fitting):
            if len(choice) == 1:
                return choice[0]
    return None


def which(files: Mapping[PurePosixPath, Any], stem: str) -> str:
    """Why `pick` picks nothing."""
    if not files:
        return f"holds no {stem}.ipynb or {stem}.py"
    return f"holds {len(files)} notebooks or .py files and not one {stem}.ipynb: keep the one to grade"


def _good(name: str, origin: str, data: bytes, kind: str, modified: float) -> Submission:
    return Submission(origin=printable(origin), data=data, kind=kind, modified=modified, **_named(name))


def _bad(name: str, path: Path, error: str) -> Submission:
    line = printable(error)[:MOST_ERROR_CHARACTERS]
    return Submission(origin=printable(str(path)), error=line, **_named(name))


def _stem(name: str) -> str:
    """A file's name without its ending, where that is one of ours."""
    for ending in sorted((*KINDS, *ENDINGS), key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def _named(raw: str) -> dict[str, Any]:
    stem = _stem(raw)
    return {"name": safe_name(stem), "student": printable(stem.split("_")[0]) or "unnamed"}


def _unique(submissions: list[Submission]) -> list[Submission]:
    taken: set[str] = set()
    result = []
    for submission in submissions:
        name, n = submission.name, 1
        # File systems that ignore case keep both, too; and no report takes the place of a class file.
        while name.casefold() in taken or CLASS_FILES.fullmatch(name.casefold()):
            n += 1
            name = f"{submission.name}-{n}"
        taken.add(name.casefold())
        result.append(replace(submission, name=name))
    return result


def _counted(submissions: list[Submission]) -> list[Submission]:
    newest: dict[str, Submission] = {}
    for s in submissions:
        best = newest.get(s.owner)
        if best is None or (not s.error, s.modified, s.name) >= (not best.error, best.modified, best.name):
            newest[s.owner] = s
    return [replace(s, counted=newest[s.owner] is s) for s in submissions]
