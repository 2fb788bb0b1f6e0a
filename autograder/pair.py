"""From a solved source to its paired notebook: `python -m autograder.pair labs/00_trust.py`.

The .py is what people edit, review and diff; the .ipynb is derived from it, and deriving it again changes
nothing. For that, a cell's id comes from its grade_id or its content, and outputs are stored for one kind
of cell alone: those that nbval compares (tag `nbval-check-output`), with the execution count without which
nbval would skip them.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from autograder.assignment import UsageError
from autograder.notebook_tools import NotebookNode, jupytext, nbformat, without_the_grammar

COMPARED = "nbval-check-output"

#: What jupytext writes into a .py beside the source: tags and nbgrader's marks, no versions, no paths.
CELL_FILTER = "tags,nbgrader,slideshow,-all"
NOTEBOOK_FILTER = "kernelspec,mlsys_lab,-jupytext,-all"

KERNEL = {"display_name": "MLSys Lab", "language": "python", "name": "python3"}

#: The first code cell of every notebook, tagged `setup`; derived notebooks and sources are held to it.
SETUP = """\
# Setup, safe to run again: installs the course where it is missing, sets the plot style.
import glob
import importlib
import os
import re
import subprocess
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
try:
    from autograder.machine import describe
except ImportError:
    near = [w for up in ("", "../", "../../") for w in glob.glob(up + "wheels/mlsys_lab_*.whl")]
    if not near:
        raise FileNotFoundError("copy the course's folder wheels/ beside this notebook") from None
    newest = max(near, key=lambda w: [int(n) for n in re.findall(r"\\d+", os.path.basename(w))])
    pip = [sys.executable, "-m", "pip", "install", "--quiet", newest, "nbclient", "scikit-learn"]
    subprocess.run(pip, check=True)
    importlib.invalidate_caches()
    from autograder.machine import describe
from autograder.check import check, skip, solved
from mlsys_lab.viz import PALETTE, bound, prediction, show, style

_ = style()
print(describe())"""


def read_source(source: Path) -> NotebookNode:
    """Read a py:percent source, its cells with ids that depend on grade_id or content alone.

    Raises:
        UsageError: the file is no py:percent text, or two cells share a grade_id.
    """
    try:
        notebook = copy.deepcopy(_parsed(source.read_text(encoding="utf-8")))
    except Exception as error:
        raise UsageError(f"{source} cannot be read as py:percent: {' '.join(str(error).split())}") from None
    taken: set[str] = set()
    for cell in notebook.cells:
        cell.metadata.pop("lines_to_next_cell", None)
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        if grade_id in taken:
            raise UsageError(f"{source}: two cells have the grade_id {grade_id}")
        cell["id"] = str(grade_id or _content_id(cell, taken))
        taken.add(cell["id"])
        if cell.cell_type == "code" and "setup" in cell.metadata.get("tags", []):
            cell["source"] = SETUP
    facts = notebook.metadata.get("mlsys_lab", {})
    notebook.metadata = NotebookNode(
        kernelspec=dict(KERNEL), language_info={"name": "python"}, mlsys_lab=facts
    )
    return notebook


@lru_cache(maxsize=64)
def _parsed(text: str) -> NotebookNode:
    """A py:percent text as a notebook; one command asks for the same source several times."""
    return jupytext.reads(text, fmt="py:percent")


def write_notebook(notebook: NotebookNode) -> str:
    """The .ipynb of a notebook: keys sorted, one-space indent, nbformat 4.5, so that it diffs by line."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    plain = json.loads(nbformat.writes(notebook))
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write_percent(notebook: NotebookNode) -> str:
    """The py:percent text of a notebook: tags and nbgrader's marks stay, jupytext's own metadata does not."""
    plain = copy.deepcopy(notebook)
    plain.metadata.pop("language_info", None)
    plain.metadata["jupytext"] = {
        "cell_metadata_filter": CELL_FILTER,
        "notebook_metadata_filter": NOTEBOOK_FILTER,
    }
    return str(jupytext.writes(plain, fmt="py:percent"))


def derive(source: Path, stored: Path | None = None) -> NotebookNode:
    """Derive a source's notebook; the outputs of compared cells come from a stored one.

    Args:
        source: the solved .py.
        stored: an .ipynb derived earlier; a compared cell whose id and source are the same keeps its output.

    Returns:
        The notebook, in which only compared cells have outputs and an execution count.
    """
    notebook = read_source(source)
    old: dict[str, Any] = {}
    if stored is not None and stored.is_file():
        old = {c.id: c for c in nbformat.read(stored, as_version=4).cells if c.cell_type == "code"}
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        before = old.get(cell.id)
        if is_compared(cell) and before is not None and before.source == cell.source:
            keep_output(cell, before.outputs, count)
    return notebook


def keep_output(cell: NotebookNode, outputs: Sequence[NotebookNode], count: int) -> None:
    """Store a compared cell's text outputs under its place among the code cells."""
    cell.execution_count = count
    cell.outputs = [NotebookNode(json.loads(json.dumps(o))) for o in outputs]
    for output in cell.outputs:
        if output.output_type == "execute_result":
            output.execution_count = count


def is_compared(cell: NotebookNode) -> bool:
    """Does nbval hold this cell's output to the stored one?"""
    return cell.cell_type == "code" and COMPARED in cell.metadata.get("tags", [])


def execute(notebook: NotebookNode, folder: Path, *, timeout_s: int = 120) -> NotebookNode:
    """Run a notebook from a clean start in its folder and return it with all outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    with without_the_grammar():
        from nbclient import NotebookClient

    plain = copy.deepcopy(notebook)
    NotebookClient(
        plain,
        timeout=timeout_s,
        kernel_name="python3",
        extra_arguments=["--log-level=40"],
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    return plain


def pair(source: Path) -> Path:
    """Write the .ipynb beside a source, run where cells are compared; renew the source's setup cell."""
    target = source.with_suffix(".ipynb")
    text = write_percent(read_source(source))
    if text != source.read_text(encoding="utf-8"):
        source.write_text(text, encoding="utf-8")
    notebook = derive(source)
    if any(is_compared(cell) for cell in notebook.cells):
        done = execute(notebook, source.parent)
        counted = enumerate((c for c in notebook.cells if c.cell_type == "code"), 1)
        outputs = {c.id: c.outputs for c in done.cells if c.cell_type == "code"}
        for count, cell in counted:
            if is_compared(cell):
                keep_output(cell, outputs[cell.id], count)
    target.write_text(write_notebook(notebook), encoding="utf-8")
    return target


def _content_id(cell: NotebookNode, taken: set[str]) -> str:
    digest = hashlib.sha256(f"{cell.cell_type}\0{cell.source}".encode()).hexdigest()[:10]
    name, repeat = digest, 2
    while name in taken:
        name, repeat = f"{digest}-{repeat}", repeat + 1
    return name


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(pair(Path(name)))
