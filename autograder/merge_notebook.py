"""A student's notebook with its .py, and the release's: merged by cell into a pair that agrees.

The notebook is read as plain JSON. Of the pair, the one that was worked in counts; where both were, and they
differ, the newer. Whatever stood in either is in its backup.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from autograder.assignment import UsageError
from autograder.merge_cells import Cell, Merged, grade_id, marks, merge
from autograder.notebook import NotebookError, cells

#: Written into a notebook's metadata by the course; all else there is the editor's.
COURSE = "mlsys_lab"


@dataclass(frozen=True)
class Side:
    """One file of a pair: its bytes, None where it is missing; whether somebody worked in it; when, in ns."""

    data: bytes | None = None
    touched: bool = False
    modified: int = 0


@dataclass(frozen=True)
class Pair:
    """A merged pair; `notebook` and `text` are the bytes to be there."""

    notebook: bytes
    text: bytes
    merged: Merged
    note: str = ""


def merge_pair(notebook: Side, text: Side, new: tuple[bytes, bytes], known: Iterable[str], name: str) -> Pair:
    """Merge a student's pair with the release's.

    Args:
        notebook, text: the student's .ipynb and .py; at least one is there.
        new: the release's .ipynb and .py.
        known: the marks of the earlier releases' cells.
        name: of the notebook, for messages.

    Returns:
        The bytes to write. What has nothing new keeps its bytes.

    Raises:
        UsageError: one of them cannot be read, or what comes out would be no valid notebook.
    """
    fresh = read_notebook(new[0], f"the release's {name}")
    mine, note = _of_the_pair(notebook, text, name)
    former = copy.deepcopy(mine)
    merged = merge(mine["cells"], fresh["cells"], set(known))
    mine["cells"] = merged.cells
    mine["nbformat"], mine["nbformat_minor"] = 4, max(5, mine.get("nbformat_minor", 0))
    mine["metadata"] = {**fresh["metadata"], **mine["metadata"]}
    if COURSE in fresh["metadata"]:
        mine["metadata"][COURSE] = fresh["metadata"][COURSE]
    mine["metadata"].pop("jupytext", None)  # pairing comes from jupytext.toml
    _validate(mine, name)
    same = notebook.data is not None and mine == former and not note
    written = notebook.data if same and notebook.data else _as_bytes(mine)
    if text.data is not None and same and _agree(text.data, mine["cells"]):
        return Pair(written, text.data, merged, note)
    return Pair(written, _percent(mine), merged, note)


def read_notebook(data: bytes, name: str) -> dict[str, Any]:
    """A notebook as plain JSON, its sources as one text each.

    Raises:
        UsageError: it is no notebook: one line that names it.
    """
    try:
        texts = cells(data)
    except NotebookError as error:
        raise UsageError(
            f"{name}: {error}; mend it, or move it away and the release's own takes its place"
        ) from None
    notebook: dict[str, Any] = json.loads(data.decode("utf-8-sig"))
    if not isinstance(notebook.get("metadata"), dict):
        notebook["metadata"] = {}
    for cell, (kind, source) in zip(notebook["cells"], texts, strict=True):
        cell["source"] = source
        _complete(cell, kind)
    return notebook


def cell_marks(files: Mapping[str, bytes], before: Mapping[str, Any]) -> dict[str, list[str]]:
    """Per notebook what its released cells are recognised by, those of earlier releases included.

    Args:
        files: what is written now, by path.
        before: what this function said of the tree before.
    """
    found = {path: set(map(str, said)) for path, said in before.items() if isinstance(said, list)}
    for path, data in files.items():
        if path.endswith(".ipynb"):
            try:
                released = read_notebook(data, path)["cells"]
            except UsageError:
                continue
            found[path] = found.get(path, set()) | set(marks(released))
    return {path: sorted(said) for path, said in sorted(found.items())}


def _of_the_pair(notebook: Side, text: Side, name: str) -> tuple[dict[str, Any], str]:
    """The student's work, from the file of the pair that holds it; and what to say of the other."""
    stored = None if notebook.data is None else read_notebook(notebook.data, name)
    if text.data is None or (stored is not None and not text.touched):
        assert stored is not None
        return stored, ""
    if stored is not None:
        later = not notebook.touched or text.modified > notebook.modified
        if not later or _agree(text.data, stored["cells"]):
            return stored, ""
    try:
        said = text.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        other = name.removesuffix(".ipynb") + ".py"
        raise UsageError(f"{other}: the file is not UTF-8 text (byte {error.start}); mend it") from None
    note = "your work is taken from its .py, which " + ("is newer and differs" if stored else "alone is left")
    return _from_percent(said, stored or {"cells": [], "metadata": {}, "nbformat": 4}), note


def _from_percent(text: str, stored: dict[str, Any]) -> dict[str, Any]:
    """A notebook with the cells of a py:percent text; a cell that is stored keeps its outputs."""
    from autograder.notebook_tools import jupytext

    free = list(stored["cells"])
    found = []
    for given in jupytext.reads(text, fmt="py:percent").cells:
        cell: Cell = {
            "cell_type": str(given.cell_type),
            "metadata": json.loads(json.dumps(given.metadata)),
            "source": str(given.source),
        }
        same = [c for c in free if (c["cell_type"], c["source"]) == (cell["cell_type"], cell["source"])]
        named = [c for c in free if grade_id(cell) and grade_id(c) == grade_id(cell)]
        if same:
            cell = copy.deepcopy(same[0])
        elif named and named[0].get("id"):
            cell["id"] = named[0]["id"]
        for twin in (same or named)[:1]:
            free.remove(twin)
        _complete(cell, cell["cell_type"])
        found.append(cell)
    return {**stored, "cells": found}


def _complete(cell: Cell, kind: str) -> None:
    if not isinstance(cell.get("metadata"), dict):
        cell["metadata"] = {}
    if kind == "code":
        if not isinstance(cell.get("outputs"), list):
            cell["outputs"] = []
        cell.setdefault("execution_count", None)
    else:
        cell.pop("outputs", None)
        cell.pop("execution_count", None)


def _validate(notebook: dict[str, Any], name: str) -> None:
    from autograder.notebook_tools import nbformat

    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        said = " ".join(str(error).split())[:160]
        raise UsageError(f"{name}: no valid notebook ({said}); save it again in JupyterLab") from None


def _agree(text: bytes, theirs: Iterable[Cell]) -> bool:
    """Does a .py hold the same cells?"""
    try:
        ours = cells(text, ".py")
    except NotebookError:
        return False
    return [_bare(*c) for c in ours if c[1].strip()] == [
        _bare(c["cell_type"], c["source"]) for c in theirs if c["source"].strip()
    ]


def _bare(kind: str, source: str) -> tuple[str, str]:
    """A cell as both forms spell it: jupytext comments magics out in a .py."""
    lines = (x.removeprefix("# ") if x.startswith(("# %", "# !")) else x for x in source.splitlines())
    return kind, "\n".join(line.rstrip() for line in lines).strip()


def _as_bytes(notebook: dict[str, Any]) -> bytes:
    text = json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "replace")


def _percent(notebook: dict[str, Any]) -> bytes:
    from autograder.notebook_tools import nbformat
    from autograder.pair import write_percent

    return write_percent(nbformat.from_dict(notebook)).encode("utf-8", "replace")
