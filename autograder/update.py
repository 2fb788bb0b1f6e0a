"""`mlsys-lab update`: a newer release of the course, merged into the student's tree without losing work.

The student's tree is the course's folder and the `workspace/` in it, whichever are there. Without a release
given, the course's own folder is taken, into which somebody has unpacked a newer one, for the workspace.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from autograder.assignment import UsageError, find
from autograder.compare import counted
from autograder.merge_cells import Merged
from autograder.merge_tree import Plan, apply, plan_update, same_as_recorded
from autograder.reading import reading_files
from autograder.tree import RECORD, course_root, is_students, is_workspace, read_record
from autograder.versions import order, release_of
from autograder.workspace import JUPYTEXT_TOML, course_files

#: What a release may unpack to: far more than the course, far less than a disk.
MOST_BYTES = 512 << 20
MOST_FILES = 20_000


def update(release: Path | None, say: Callable[[str], Any], start: Path | None = None) -> None:
    """Merge a newer release into the tree at hand.

    Args:
        release: its folder or zip; None takes the course's own folder for its workspace.
        say: told a line at a time what became of what.
        start: where the student's tree is looked for, upwards; the current folder where None.

    Raises:
        UsageError: no release, an older one, no tree here, or something that cannot be read or written; then
            nothing was changed.
    """
    root, workspace = _trees((start or Path.cwd()).resolve())
    if release is not None and root is not None and release.is_dir() and release.resolve() == root:
        release = None
    if release is None:
        source = root or course_root(workspace.parent if workspace else start)
        if workspace is None:
            raise UsageError(
                "there is no workspace/ here to update: name the newer release, as in "
                "`mlsys-lab update ../course-2027.zip`"
            )
        _merge(source, None, workspace, say)
        return
    with opened(release) as folder:
        _merge(folder, root, workspace, say)


def newest_known(notebook: Path) -> str:
    """The newest release that can be seen from a notebook without asking a network.

    It is looked for in the folders above (the workspace, the course's folder) and in the installed package.
    """
    found = [release_of(folder) for folder in notebook.resolve().parents if is_students(folder)]
    found.append(release_of(Path(__file__).resolve().parent / "course"))
    return max(found, key=order)


@contextmanager
def opened(release: Path) -> Iterator[Path]:
    """The folder of a release, unpacked for the time being where it is a zip.

    Raises:
        UsageError: it is no release of the course, or not whole.
    """
    if release.is_dir():
        _check_release(release, release)
        yield release
        return
    if not release.is_file():
        raise UsageError(f"there is no {release}: name the newer release's folder or zip")
    with tempfile.TemporaryDirectory(prefix="mlsys-lab-release-") as place:
        _unpack(release, Path(place))
        tops = list(Path(place).iterdir())
        folder = tops[0] if len(tops) == 1 and tops[0].is_dir() else Path(place)
        _check_release(folder, release)
        yield folder


def _trees(here: Path) -> tuple[Path | None, Path | None]:
    """The student's trees at a place: the course's folder where that is a release, and its workspace."""
    inside = next((folder for folder in (here, *here.parents) if is_students(folder)), None)
    if inside is not None and is_workspace(inside):
        above = inside.parent
        return (above if is_students(above) and not is_workspace(above) else None), inside
    near = inside or next((f for f in (here, *here.parents) if is_workspace(f / "workspace")), None)
    if near is None:
        raise UsageError("no tree of the course here: run this in the course's folder or in workspace/")
    return inside, near / "workspace" if is_workspace(near / "workspace") else None


def _merge(source: Path, root: Path | None, workspace: Path | None, say: Callable[[str], Any]) -> None:
    new = release_of(source)
    plans: list[tuple[Plan, str]] = []
    for tree in (root, workspace):
        if tree is None:
            continue
        was = release_of(tree)
        if order(new) < order(was):
            raise UsageError(
                f"the release is {new or 'older, without a VERSION'}, and {tree} is of {was}: name a "
                "newer one. Nothing was changed"
            )
        files = _released(source) if tree == root else _for_a_workspace(source)
        plans.append((plan_update(files, tree, was), was))
    apply([plan for plan, _ in plans])
    for plan, was in plans:
        for line in _report(plan, was, new):
            say(line)
    if any(plan.merged for plan, _ in plans):
        say("a notebook that is open in an editor: close it there without saving, and open it again")


def _released(source: Path) -> dict[str, bytes]:
    return {path: (source / path).read_bytes() for path in read_record(source)["files"]}


def _for_a_workspace(source: Path) -> dict[str, bytes]:
    found = find(source)
    if not found:
        raise UsageError(f"{source} holds no lab and no homework")
    return course_files(found) | reading_files(source) | {"jupytext.toml": JUPYTEXT_TOML.encode()}


def _report(plan: Plan, was: str, new: str) -> Iterator[str]:
    """What an update did to a tree, a line each; notebooks with work in them one by one."""
    for path in plan.kept:
        yield f"{plan.folder / path}: stays as you filled it in; the release's text is new, compare it there"
    if not plan.changes:
        yield f"{plan.folder}: nothing to change" + (f", it is of release {new}" if new else "")
        return
    backups = plan.backups()
    yield f"{plan.folder}: " + (
        f"{was or 'no release said'} -> {new}" if was != new else f"release {new or '?'}"
    )
    for path, (merged, note) in plan.merged.items():
        where = backups.get(path) or backups.get(str(PurePosixPath(path).with_suffix(".py")), "")
        yield f"  {path}: {_what(merged)}" + (f"; before: {where}" if where else "")
        for line in ([note] if note else []) + merged.notes:
            yield f"    {line}"
        if merged.edited:
            yield f"    you had changed, and it is only in the backup now: {', '.join(merged.edited)}"
    if plan.created:
        yield f"  {counted(len(plan.created), 'new file')}: {_some(plan.created)}"
    if plan.renewed:
        yield f"  {counted(len(plan.renewed), 'file')} renewed that nobody had changed: {_some(plan.renewed)}"
    for path in plan.replaced:
        yield f"  {path}: replaced, yours is {backups[path]}"


def _what(merged: Merged) -> str:
    course = [
        f"{len(cells)} {word}"
        for cells, word in (
            (merged.renewed, "renewed"),
            (merged.added, "added"),
            (merged.removed, "removed"),
        )
        if cells
    ]
    of_the_course = f"course's cells: {', '.join(course)}" if course else "course's cells as they were"
    return (
        f"{of_the_course}; yours stay: {counted(merged.answers, 'answer')}, {counted(merged.own, 'own cell')}"
    )


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:4]) + (", ..." if len(paths) > 4 else "")


def _check_release(folder: Path, name: Path) -> None:
    if not is_students(folder) or is_workspace(folder):
        what = "a workspace" if is_students(folder) else "no release of the course"
        raise UsageError(f"{name} is {what}: name what `mlsys-lab release` made, a folder or a zip of it")
    files: Mapping[str, Any] = read_record(folder).get("files") or {}
    for path, written in files.items():
        plain = PurePosixPath(path)
        if plain.is_absolute() or ".." in plain.parts or "\\" in path or ":" in path:
            raise UsageError(f"{name} is damaged: its record names {json.dumps(path)}; get it again")
        if not (folder / path).is_file():
            raise UsageError(f"{name} is not whole: {path} is missing; get it again")
        if not same_as_recorded((folder / path).read_bytes(), written):
            raise UsageError(f"{name} is not as it was released: {path} was changed; get it again")
    if not files:
        raise UsageError(f"{name} is no release of the course: its {RECORD} names no file; get it again")


def _unpack(archive: Path, place: Path) -> None:
    """Unpack a release's zip; nothing of it may lie elsewhere, and it has a size that a course has."""
    try:
        with zipfile.ZipFile(archive) as stream:
            members = [m for m in stream.infolist() if not m.is_dir() and "__MACOSX" not in m.filename]
            if len(members) > MOST_FILES or sum(m.file_size for m in members) > MOST_BYTES:
                raise UsageError(f"{archive} is too large for a release of the course")
            for member in members:
                stream.extract(member, place)  # takes drives and .. off the names
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise UsageError(f"{archive} cannot be read as a zip: {error}; get it again") from None
    except OSError as error:
        raise UsageError(f"{archive} cannot be unpacked: {error.strerror or error}") from None
