"""From a solved notebook to the one that students get.

A region between the line markers `### BEGIN SOLUTION` and `### END SOLUTION` becomes a stub: inside a
function `raise NotImplementedError` at the same indentation; at the top of a cell, where raising would stop
"Run All", the names that the region assigns become None. A line `### STARTER: code` inside the region is
what students get instead (a leak to be found). In text the region becomes a place to write.
"""

from __future__ import annotations

import ast
import base64
import json
import re
import textwrap
import zlib
from pathlib import Path

from autograder.assignment import UsageError
from autograder.notebook_tools import NotebookNode
from autograder.pair import COMPARED, read_source

BEGIN = re.compile(r"^(?P<indent>[ \t]*)### BEGIN SOLUTION[ \t]*$", re.MULTILINE)
END = re.compile(r"^[ \t]*### END SOLUTION[ \t]*$", re.MULTILINE)
STARTER = re.compile(r"^[ \t]*### STARTER:[ ]?(?P<code>.*)$")

#: What only an instructor sees: rubric cells, nbgrader's task cells.
INSTRUCTOR = "instructor"


def student_notebook(source: Path) -> NotebookNode:
    """The student version of a solved source; of a student version it is the same notebook again.

    Raises:
        UsageError: a marker without its partner, or a region for which no stub can be made.
    """
    notebook = read_source(source)
    kept = []
    for cell in notebook.cells:
        marks = cell.metadata.get("nbgrader", {})
        tags = [t for t in cell.metadata.get("tags", []) if t != COMPARED]
        if INSTRUCTOR in cell.metadata.get("tags", []) or marks.get("task"):
            continue
        cell.source = without_solution(cell.source, f"{source.name}, cell {cell.id}", cell.cell_type)
        cell.metadata = NotebookNode(
            {k: cell.metadata[k] for k in ("nbgrader", "slideshow") if k in cell.metadata}
        )
        if tags:
            cell.metadata["tags"] = tags
        kept.append(cell)
    notebook.cells = kept
    return notebook


def without_solution(text: str, where: str, kind: str = "code") -> str:
    """Replace each solution region of a cell by its stub.

    Args:
        text: the cell's source.
        where: names the cell in an error.
        kind: `code`, or `markdown` and `raw`, whose stub is a place to write.

    Raises:
        UsageError: as `student_notebook`.

    Example:
        >>> print(without_solution("def f():\\n  ### BEGIN SOLUTION\\n  return 1\\n  ### END SOLUTION", "q1"))
        def f():
          raise NotImplementedError("your code here")
    """
    lines, kept = text.split("\n"), []
    region: list[str] | None = None
    indent = ""
    for line in lines:
        opens, closes = BEGIN.match(line), END.match(line)
        if opens:
            if region is not None:
                raise UsageError(f"{where}: BEGIN SOLUTION twice without END SOLUTION")
            region, indent = [], opens["indent"]
        elif closes:
            if region is None:
                raise UsageError(f"{where}: END SOLUTION without BEGIN SOLUTION")
            kept += _stub(region, indent, where) if kind == "code" else ["*Your answer here.*"]
            region = None
        elif region is not None:
            region.append(line)
        else:
            kept.append(line)
    if region is not None:
        raise UsageError(f"{where}: BEGIN SOLUTION without END SOLUTION")
    return "\n".join(kept)


def solution_lines(source: Path) -> set[str]:
    """The lines that must not be found in anything students get, stripped.

    Short ones that say nothing are left out. A line that stands outside a region of the same source as well
    (`return total`) is no secret.
    """
    secret: set[str] = set()
    open_text: set[str] = set()
    for cell in read_source(source).cells:
        shown = without_solution(cell.source, source.name, cell.cell_type)
        hidden = INSTRUCTOR in cell.metadata.get("tags", []) or cell.metadata.get("nbgrader", {}).get("task")
        open_text |= set() if hidden else {line.strip() for line in shown.split("\n")}
        secret |= _said(cell.source) if hidden else _inside(cell.source)
    plain = ("###", "def ", "class ", "import ", "from ")  # a name or a signature answers nothing
    bare = re.compile(r"\w+\(\);?")  # neither does a call without arguments, `__syncthreads();`
    found = {line for line in secret - open_text if len(line) >= 12 and not line.startswith(plain)}
    return {line for line in found if not bare.fullmatch(line)}


def reference_code(source: Path) -> dict[str, tuple[str, str]]:
    """The solved code of each exercise by question: `{"q1": (what it needs, its cell)}`.

    What it needs are the imports, functions and classes that stand above it. The exercise of question
    `lab00.q1` is the cell tagged `exercise` whose grade_id is `lab00-q1`.
    """
    shared: list[str] = []
    found: dict[str, tuple[str, str]] = {}
    for cell in read_source(source).cells:
        tags = cell.metadata.get("tags", [])
        match = re.fullmatch(r"\w+-(q\w+)", cell.metadata.get("nbgrader", {}).get("grade_id", ""))
        if match and "exercise" in tags:
            found[match[1]] = ("\n".join(shared), cell.source)
        if cell.cell_type == "code" and "setup" not in tags:
            shared += _definitions(cell.source)
    return found


def packed_reference(source: Path) -> str:
    """A lab's reference as the JSON that learners get, packed so that nobody reads an answer by accident."""
    packed = {
        question: base64.b85encode(zlib.compress(json.dumps(parts).encode(), 9)).decode()
        for question, parts in reference_code(source).items()
    }
    says = "Answers for skip(), packed against reading by accident: JSON, zlib, base85."
    return json.dumps({"says": says, "questions": packed}, indent=1) + "\n"


def unpacked_reference(text: str) -> dict[str, tuple[str, str]]:
    """What `packed_reference` packed."""
    found = {}
    for question, packed in json.loads(text)["questions"].items():
        needs, cell = json.loads(zlib.decompress(base64.b85decode(packed)))
        found[question] = (needs, cell)
    return found


def _stub(region: list[str], indent: str, where: str) -> list[str]:
    starter = [m["code"] for line in region if (m := STARTER.match(line))]
    if starter:
        return [indent + line if line else "" for line in starter]
    if indent:
        return [f'{indent}raise NotImplementedError("your code here")']
    try:
        names = [name for node in ast.parse("\n".join(region)).body for name in _assigned(node)]
    except SyntaxError as error:
        raise UsageError(f"{where}: the solution cannot be parsed: {error.msg}") from None
    if not names:
        raise UsageError(
            f"{where}: a solution at the top of a cell must assign a name, or give a STARTER line"
        )
    return [f"{name} = None  # your answer" for name in dict.fromkeys(names)]


def _assigned(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []


def _definitions(text: str) -> list[str]:
    wanted = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return [ast.unparse(node) for node in ast.parse(_without_magics(text)).body if isinstance(node, wanted)]


def _without_magics(text: str) -> str:
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in text.split("\n"))


def _inside(text: str) -> set[str]:
    parts = [END.split(part)[0] for part in BEGIN.split(text)[2::2]]
    return {line for part in parts for line in _said(part)}


def _said(text: str) -> set[str]:
    return {line.strip() for line in textwrap.dedent(text).split("\n") if line.strip()}
