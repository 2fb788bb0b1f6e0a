"""Reading notebooks: what a submission holds, and what a source says of itself.

A submission is a stranger's file, so it is read with `json` alone: no code of the file is parsed here,
nothing is keyed on metadata, and whatever is wrong with it becomes one line. Of a source of the course's own
only the header is read here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from autograder.assignment import UsageError

#: What the header of every source must say, and of which type.
FACTS: dict[str, type | tuple[type, ...]] = {
    "title": str,
    "week": int,
    "prerequisites": list,
    "minutes": int,
    "needs": list,
    "parts": list,
    "points": (int, float),
}

_MARKER = re.compile(r"^# ?%%(?P<kind>|\s.*)$")


class NotebookError(ValueError):
    """The file cannot be read as a notebook; the message is one line that says why."""


def header(source: Path) -> dict[str, Any]:
    """Read what a source says of itself: the mapping `mlsys_lab` under `jupyter` in its YAML header.

    Args:
        source: a py:percent file, `labs/00_trust.py`.

    Returns:
        The facts: `title`, `week`, `prerequisites`, `minutes`, `needs`, `parts`, `points`.

    Raises:
        UsageError: the header is missing, or one of the facts is missing or of the wrong type.
    """
    import yaml

    lines = source.read_text(encoding="utf-8").splitlines()
    if lines[:1] != ["# ---"] or "# ---" not in lines[1:]:
        raise UsageError(f"{source}: there is no YAML header: it stands first, between two lines '# ---'")
    end = lines.index("# ---", 1)
    try:
        said = yaml.safe_load("\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[1:end]))
        facts = dict(said["jupyter"].get("mlsys_lab", {}))
    except (yaml.YAMLError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise UsageError(f"{source}: the YAML header cannot be read: {_one_line(error)}") from None
    for name, kind in FACTS.items():
        if name not in facts:
            raise UsageError(f"{source}: the header says no `{name}`: add it under jupyter, mlsys_lab")
        if not isinstance(facts[name], kind) or isinstance(facts[name], bool):
            raise UsageError(f"{source}: `{name}` in the header is {facts[name]!r}, not {_kinds(kind)}")
    return facts


def code_cells(data: bytes, suffix: str = ".ipynb") -> list[str]:
    """Take the code cells out of a submission, in their order.

    Args:
        data: the file as handed in.
        suffix: `.ipynb`, or `.py` for a py:percent or a plain Python file.

    Returns:
        The source of each code cell, magics and all; unencodable characters are replaced.

    Raises:
        NotebookError: the file is empty, not text, not JSON or not a notebook of nbformat 4.
    """
    return [text for kind, text in cells(data, suffix) if kind == "code"]


def cells(data: bytes, suffix: str = ".ipynb") -> list[tuple[str, str]]:
    """Take every cell out of a submission: its kind (`code`, `markdown`, `raw`) and its source.

    Raises:
        NotebookError: as `code_cells`.
    """
    if not data.strip():
        raise NotebookError("the file is empty")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotebookError(f"the file is not UTF-8 text (byte {error.start})") from None
    return _percent_cells(_unix(text)) if suffix == ".py" else _json_cells(text)


def sanitised(data: bytes, suffix: str = ".ipynb") -> bytes:
    """Write a submission anew with its cells' kinds and sources alone.

    Metadata, tags, outputs, execution counts and attachments are dropped: each of them can change what nbval
    runs or compares (`skip-execution`, `raises-exception`, `nbval-skip`).

    Returns:
        A notebook of nbformat 4.5 for the kernel `python3`, as UTF-8 JSON.

    Raises:
        NotebookError: as `code_cells`.
    """
    fresh = []
    for number, (kind, text) in enumerate(cells(data, suffix)):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": text}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        fresh.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    notebook = {"cells": fresh, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1).encode()


def _json_cells(text: str) -> list[tuple[str, str]]:
    try:
        notebook = json.loads(text)
    except RecursionError:
        raise NotebookError("the file is not a notebook: its JSON is nested too deeply") from None
    except ValueError as error:
        raise NotebookError(f"the file is not valid JSON: {_one_line(error)}") from None
    if not isinstance(notebook, dict) or "nbformat" not in notebook:
        raise NotebookError("the file is JSON, but not a notebook: it has no nbformat")
    version = notebook["nbformat"]
    if version != 4 or type(version) is not int:
        said = version if type(version) is int and abs(version) < 10_000 else "unknown"
        raise NotebookError(f"the notebook has nbformat {said}, not 4: save it again in JupyterLab 4")
    listed = notebook.get("cells")
    if not isinstance(listed, list):
        raise NotebookError("the notebook holds no list of cells")
    return [_json_cell(number, cell) for number, cell in enumerate(listed, 1)]


def _json_cell(number: int, cell: Any) -> tuple[str, str]:
    kind = cell.get("cell_type") if isinstance(cell, dict) else None
    source = cell.get("source") if isinstance(cell, dict) else None
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if kind not in ("code", "markdown", "raw") or not isinstance(source, str):
        raise NotebookError(f"cell {number} of the notebook is not a cell: it needs a cell_type and a source")
    # A lone surrogate is valid in JSON and cannot be written as UTF-8.
    return str(kind), _unix(source.encode("utf-8", "replace").decode("utf-8"))


def _percent_cells(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, list[str]]] = [("code", [])]
    for line in text.split("\n"):
        marker = _MARKER.match(line)
        if marker is None:
            found[-1][1].append(line)
        else:
            said = marker["kind"]
            kind = (
                "markdown" if "[markdown]" in said or "[md]" in said else "raw" if "[raw]" in said else "code"
            )
            found.append((kind, []))
    kept = []
    for position, (kind, lines) in enumerate(found):
        if kind != "code":
            lines = [re.sub(r"^# ?", "", line) for line in lines]
        body = "\n".join(lines).strip("\n")
        # Before the first marker stands the YAML header, all comments, or the whole of a plain Python file.
        if position == 0 and all(not line.strip() or line.startswith("#") for line in lines):
            continue
        kept.append((kind, body))
    return kept


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _kinds(kind: type | tuple[type, ...]) -> str:
    return " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))


def _one_line(error: BaseException, limit: int = 120) -> str:
    return " ".join(str(error).split())[:limit]
