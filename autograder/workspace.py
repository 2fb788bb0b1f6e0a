"""What students get of the course, and writing it into a tree without touching anyone's work.

Whoever writes into a student's folder records a hash of each file as written. A file that still has that
hash is nobody's work and may be renewed; any other is left alone, and its new version goes to
`new-version/`.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from autograder.assignment import Assignment, UsageError, find, load_assignment
from autograder.compare import counted
from autograder.files import write_whole
from autograder.merge_notebook import cell_marks
from autograder.overview import overview
from autograder.pair import CELL_FILTER, NOTEBOOK_FILTER, write_notebook, write_percent
from autograder.reading import reading_files
from autograder.student import packed_reference, student_notebook
from autograder.tree import RECORD, read_record
from autograder.versions import FILE as VERSION_FILE
from autograder.versions import order

ASIDE = "new-version"

JUPYTEXT_TOML = f"""# Saving a notebook in JupyterLab writes the .py beside it too.
formats = "ipynb,py:percent"
notebook_metadata_filter = "{NOTEBOOK_FILTER}"
cell_metadata_filter = "{CELL_FILTER}"
"""

#: What students need of an assignment.toml, besides its limits; the rest belongs to the grader.
TOML_KEYS = (
    "name",
    "title",
    "hours",
    "points",
    "manual_points",
    "clean_start",
    "modules",
    "preload",
    "release",
)


@dataclass
class Written:
    """What writing a tree did: paths as written, relative, by what became of them.

    `kept` also says where each new version went.
    """

    folder: Path
    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """One line per thing worth saying; none where nothing happened."""
        said = []
        if self.created:
            said.append(f"{self.folder}: {counted(len(self.created), 'file')} created")
        if self.updated:
            said.append(f"{self.folder}: {counted(len(self.updated), 'file')} updated, none of them yours")
        said += [
            f"{path}: kept as you changed it; the new version is {place}" for path, place in self.kept.items()
        ]
        return [*said, *self.notes]


def student_files(assignments: Mapping[str, Assignment]) -> dict[str, bytes]:
    """The files that students get of these labs and homeworks, by relative path.

    Raises:
        UsageError: a source from which no student version can be made.
    """
    files: dict[str, bytes] = {}
    for assignment in assignments.values():
        source = assignment.source
        notebook = student_notebook(source)
        if assignment.release:
            notebook.metadata.mlsys_lab["version"] = assignment.release
        path = notebook_path(assignment)
        home = str(PurePosixPath(path).parent)
        files[str(PurePosixPath(path).with_suffix(".py"))] = write_percent(notebook).encode()
        files[path] = write_notebook(notebook).encode()
        checks = "labs/checks" if assignment.is_lab else f"{home}/tests/public"
        files |= {f"{checks}/{path.name}": path.read_bytes() for path in assignment.public}
        if assignment.is_lab:
            number = assignment.name.removeprefix("lab")
            packed = source.parent / "checks" / f"reference_{number}.json"
            text = packed.read_text(encoding="utf-8") if packed.is_file() else packed_reference(source)
            files[f"labs/checks/reference_{number}.json"] = text.encode()
        else:
            files[f"{home}/assignment.toml"] = reduced_toml(assignment.folder / "assignment.toml").encode()
    return dict(sorted(files.items()))


def notebook_path(assignment: Assignment) -> str:
    """Where an assignment's notebook lies in every tree, relative to its root."""
    home = "labs" if assignment.is_lab else f"assignments/{assignment.name}"
    return f"{home}/{assignment.source.stem}.ipynb"


def recorded(folder: Path) -> set[str]:
    """The files that were written into a folder by `write_tree`."""
    return set(read_record(folder).get("files") or {})


def reduced_toml(path: Path) -> str:
    """What students need of an assignment.toml: titles, points, the names that are asked for."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    points = {q.id: q.points for q in load_assignment(path.parent).questions.values()}
    lines = [f"{key} = {json.dumps(table[key], ensure_ascii=False)}" for key in TOML_KEYS if key in table]
    if "limits" in table:
        lines += ["", "[limits]", *(f"{k} = {json.dumps(v)}" for k, v in table["limits"].items())]
    for key, question in table.get("questions", {}).items():
        lines += ["", f"[questions.{key}]"]
        lines += [
            f"{k} = {json.dumps(question[k], ensure_ascii=False)}"
            for k in ("title", "names")
            if k in question
        ]
        lines += [f"points = {points[key]:g}"] if points.get(key) else []
    return "\n".join(lines) + "\n"


def write_tree(files: Mapping[str, bytes], into: Path, *, kind: str) -> Written:
    """Write files below a folder; a file that somebody changed since it was written is left as it is.

    Args:
        files: content by relative path, with forward slashes.
        into: the folder; made where it is missing.
        kind: `workspace` or `release`, recorded in the folder.

    Returns:
        What became of each file. For a file that was kept, a new version lies in `new-version/`.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        return _write_tree(files, into, kind)
    except OSError as error:
        raise UsageError(
            f"cannot write to {into}: {error.strerror or error}. Free some space or name another folder"
        ) from None


def _write_tree(files: Mapping[str, bytes], into: Path, kind: str) -> Written:
    record = read_record(into)
    hashes: dict[str, str] = dict(record.get("files") or {})
    asides: dict[str, str] = dict(record.get("aside") or {})
    report = Written(into)
    units: dict[str, list[str]] = {}
    for path in files:
        # A notebook and its .py are one work: a change in either keeps both.
        units.setdefault(
            str(PurePosixPath(path).with_suffix("")) if _paired(path, files) else path, []
        ).append(path)
    for paths in units.values():
        changed = any(_is_changed(into / path, files[path], hashes.get(path)) for path in paths)
        for path in paths:
            _write_one(path, files[path], into, changed, (hashes, asides), report)
        if len(paths) == 2 and not changed:
            # Jupytext refuses a pair whose .py is more than a second older than its notebook.
            for path in paths:
                os.utime(into / path)
    new: dict[str, Any] = {"kind": kind, "files": dict(sorted(hashes.items()))}
    if asides:
        new["aside"] = dict(sorted(asides.items()))
    marks = cell_marks(files, record.get("cells") or {})
    if marks:
        new["cells"] = marks
    if new != record:
        write_whole(into / RECORD, json.dumps(new, indent=1) + "\n")
    return report


def course_files(assignments: Mapping[str, Assignment]) -> dict[str, bytes]:
    """`student_files`, the overview of the labs among them, and a VERSION that says which release it is."""
    files = student_files(assignments)
    release = max((a.release for a in assignments.values()), key=order, default="")
    files |= {VERSION_FILE: f"{release}\n".encode()} if release else {}
    labs = [a.source for a in assignments.values() if a.is_lab]
    return files | ({"labs/README.md": overview(labs).encode()} if labs else {})


def make_workspace(root: Path, into: Path) -> Written:
    """Make or renew a folder to work in from a course's tree: the student version, paired for JupyterLab.

    Raises:
        UsageError: the tree holds nothing to work on.
    """
    found = find(root)
    if not found:
        raise UsageError(f"{root} holds no lab and no homework")
    files = course_files(found) | reading_files(root) | {"jupytext.toml": JUPYTEXT_TOML.encode()}
    return write_tree(files, into, kind="workspace")


def put_files(files: Mapping[str, bytes], into: Path) -> None:
    """Write files below a new folder that is nobody's."""
    for path, data in files.items():
        write_whole(into / path, data)


def _write_one(
    path: str,
    data: bytes,
    into: Path,
    changed: bool,
    written: tuple[dict[str, str], dict[str, str]],
    report: Written,
) -> None:
    target, (hashes, asides) = into / path, written
    if changed:
        if hashes.get(path) != _hash(data) and (not target.is_file() or target.read_bytes() != data):
            place = _place_aside(path, into, asides)
            write_whole(into / place, data)
            asides[place] = _hash(data)
            report.kept[path] = place
            hashes[path] = _hash(data)
        else:
            report.unchanged.append(path)
        return
    if target.is_file() and target.read_bytes() == data:
        report.unchanged.append(path)
    else:
        (report.updated if target.is_file() else report.created).append(path)
        write_whole(target, data)
    hashes[path] = _hash(data)


def _place_aside(path: str, into: Path, asides: Mapping[str, str]) -> str:
    """Where a new version goes: over an earlier one, unless somebody has worked in that."""
    number = 1
    while True:
        place = f"{ASIDE}/{path}" if number == 1 else f"{ASIDE}-{number}/{path}"
        target = into / place
        if not target.is_file() or _hash(target.read_bytes()) == asides.get(place):
            return place
        number += 1


def _is_changed(target: Path, new: bytes, written: str | None) -> bool:
    """Does the file hold somebody's work: neither what was written nor what would be?"""
    if not target.is_file():
        return False
    now = target.read_bytes()
    return now != new and _hash(now) != written


def _paired(path: str, files: Mapping[str, bytes]) -> bool:
    stem, suffix = path.rsplit(".", 1) if "." in path else (path, "")
    other = {"py": ".ipynb", "ipynb": ".py"}.get(suffix)
    return other is not None and stem + other in files


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
