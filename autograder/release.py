"""The students' repository: complete, and without any of what only an instructor has.

It holds the student version of the notebooks, the public checks, the bootstrap, the licences and the
library as a wheel. Making it again changes nothing; whatever a student changed in it stays. Before anything
is written, the whole tree and the wheel are searched for solution lines, markers, hidden tests and mutants.
"""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from autograder import VERSION
from autograder.assignment import Assignment, UsageError, find
from autograder.notebook import NotebookError, cells
from autograder.publish import codespaces_badge, colab_badge, linked
from autograder.reading import HOME as READINGS
from autograder.reading import reading_files
from autograder.student import solution_lines
from autograder.tree import is_students, is_workspace
from autograder.versions import configured, order
from autograder.workspace import (
    JUPYTEXT_TOML,
    course_files,
    notebook_path,
    put_files,
    recorded,
    write_tree,
)

#: Taken from this repository as they are.
TOP = ("lab.py", "constraints.txt", "LICENSE", "LICENSE-text", "NOTICE")
WHEEL = f"mlsys_lab_course-{VERSION}-py3-none-any.whl"

#: The repository of this package: what to take and what to build the wheel from.
HOME = Path(__file__).resolve().parent.parent

#: 2020-02-02, hatchling's own fixed date: equal sources give an equal wheel.
EPOCH = "1580601600"

_MARKER = re.compile(r"^\s*(# )?### ((BEGIN|END) SOLUTION|STARTER:)", re.MULTILINE)


def release(chosen: Sequence[Assignment], out: Path, root: Path, *, readings: bool = False) -> list[str]:
    """Write the students' repository, or renew it.

    Args:
        chosen: the labs and homeworks to release, besides those released to this folder before; others are
            neither in the tree nor in the wheel.
        out: its folder; files that somebody changed there since they were written stay.
        root: the instructor's course.
        readings: also the weekly papers; those that were released before stay in any case.

    Returns:
        Lines that say what was written.

    Raises:
        UsageError: this is no repository to release from, or something secret would have been written.
    """
    missing = [name for name in (*TOP, "pyproject.toml") if not (HOME / name).is_file()]
    if missing:
        raise UsageError(f"{HOME} lacks {', '.join(missing)}: release from the instructor's repository")
    if out.resolve() == root.resolve() or out.resolve() == HOME:
        raise UsageError(f"{out} is the instructor's repository: name another folder with --out")
    there = {entry.name for entry in out.iterdir()} - {".git"} if out.is_dir() else set()
    if there and (not is_students(out) or is_workspace(out)):
        raise UsageError(f"{out} is not empty and no release of ours: name a new folder with --out")
    everything = find(root)
    before = recorded(out)
    again = [a for a in everything.values() if notebook_path(a) in before]
    released = list({a.name: a for a in [*again, *chosen]}.values())
    course = course_files({a.name: a for a in released})
    papers = readings or any(path.startswith(f"{READINGS}/") for path in before)
    url = configured(root).get("url", "")
    files = {
        **(linked(course, url, WHEEL) if url else course),
        **(reading_files(root) if papers else {}),
        **{name: (HOME / name).read_bytes() for name in TOP},
        "README.md": readme(released, papers, url).encode(),
        "jupytext.toml": JUPYTEXT_TOML.encode(),
        ".gitignore": b".venv*/\n__pycache__/\n.ipynb_checkpoints/\n/workspace/\n/submissions/\n*.bak\n",
        f"wheels/{WHEEL}": build_wheel(course),
    }
    found = leaks(files, [*everything.values(), *chosen])
    if found:
        raise UsageError(f"nothing was written, {len(found)} leaks: {'; '.join(found[:3])}")
    report = write_tree(files, out, kind="release")
    for old in set((out / "wheels").glob("mlsys_lab_course-*.whl")) - {out / "wheels" / WHEEL}:
        old.unlink()
    return report.lines() or [f"{out}: nothing has changed"]


def build_wheel(course: Mapping[str, bytes]) -> bytes:
    """Build the library's wheel with a course's files in it; in this process and without a network.

    Raises:
        UsageError: hatchling is not installed.
    """
    try:
        from hatchling.builders.wheel import WheelBuilder

        from autograder.build_hook import TREE
    except ImportError:
        raise UsageError(
            "the wheel needs hatchling: `python3 lab.py release` installs it, or pip install hatchling"
        ) from None
    with tempfile.TemporaryDirectory(prefix="mlsys-lab-wheel-") as folder:
        tree, target = Path(folder, "course"), Path(folder, "wheel")
        put_files(course, tree)
        with _environment({TREE: str(tree), "SOURCE_DATE_EPOCH": EPOCH}):
            built = list(WheelBuilder(str(HOME)).build(directory=str(target), versions=["standard"]))
        return Path(built[0]).read_bytes()


def leaks(files: Mapping[str, bytes], assignments: Sequence[Assignment]) -> list[str]:
    """Everything in a tree that students must not see; wheels are looked into.

    Args:
        files: content by path.
        assignments: all of the instructor's, released or not: nothing of any may be there.

    Returns:
        One line per leak.
    """
    secret = set().union(*(solution_lines(a.source) for a in assignments)) if assignments else set()
    withheld = {p.read_bytes(): p.name for a in assignments for p in _instructors(a)}
    found = []
    for path, data in _members(files):
        if re.search(r"(^|/)(hidden|mutants|samples)/", path):
            found.append(f"{path} lies in a folder that is not for students")
        if re.search(r"(^|/)assignments/.*reference", path):
            found.append(f"{path} is a reference: only labs have one, for skip()")
        if data in withheld:
            found.append(f"{path} is the instructor's {withheld[data]}")
        text = _text(path, data)
        if _MARKER.search(text):
            found.append(f"{path} holds a solution marker")
        said = set() if _is_library(path) else {line.strip() for line in text.split("\n")}
        found += [f"{path} holds the solution's line `{line}`" for line in sorted(said & secret)]
    return found


def readme(chosen: Sequence[Assignment], papers: bool = False, url: str = "") -> str:
    """The README of the students' repository; with links that open it elsewhere where it is published."""
    template = (Path(__file__).parent / "templates" / "student_readme.md").read_text(encoding="utf-8")
    rows = [
        f"| {a.name} | {a.title} | {a.points:g} |"
        + (f" {colab_badge(url, notebook_path(a))} |" if url else "")
        for a in chosen
    ]
    version = max((a.release for a in chosen), key=order, default="") or VERSION
    reading = "- **Reading**: one paper a week with two questions, `assignments/reading/README.md`.\n"
    texts = {"rows": "\n".join(rows), "version": version, "open": codespaces_badge(url) if url else ""}
    texts |= {"head": " in Colab |" if url else "", "rule": "---|" if url else ""}
    texts |= {"reading": reading if papers else ""}
    for name, text in texts.items():
        template = template.replace("{" + name + "}", text)
    return template


def _instructors(assignment: Assignment) -> list[Path]:
    mutants = sorted((assignment.folder / "mutants").glob("*.py")) if not assignment.is_lab else []
    return [p for p in (assignment.source, assignment.notebook, *assignment.hidden, *mutants) if p.is_file()]


def _members(files: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    for path, data in files.items():
        if path.endswith(".whl"):
            with zipfile.ZipFile(BytesIO(data)) as wheel:
                yield from ((f"{path}:{name}", wheel.read(name)) for name in wheel.namelist())
        else:
            yield path, data


def _text(path: str, data: bytes) -> str:
    if path.endswith(".ipynb"):
        try:
            return "\n".join(text for _, text in cells(data))
        except NotebookError:
            pass
    return data.decode("utf-8", "replace")


def _is_library(path: str) -> bool:
    """A module of the two packages: it may share a line with a solution, as any program may."""
    return bool(re.search(r"\.whl:(mlsys_lab|autograder)/(?!course/)", path))


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
