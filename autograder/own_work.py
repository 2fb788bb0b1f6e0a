"""Your own work, before you hand it in: `check` runs its public tests, `submit` packs it.

Nothing here is a sandbox: it is your own code on your own machine.
"""

from __future__ import annotations

import getpass
import io
import os
import secrets
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from autograder.assignment import Assignment, UsageError, find
from autograder.colab import imports_colab
from autograder.compare import counted
from autograder.extract import run_slice
from autograder.files import write_whole
from autograder.local import LocalSession
from autograder.notebook import NotebookError, code_cells, sanitised
from autograder.run_tests import TestResult, run_tests
from autograder.submission import safe_name
from autograder.tree import course_root, is_workspace
from autograder.update import newest_known
from autograder.versions import order, stamped

_UNSOLVED = "not solved yet"
#: What stands in a written answer that nobody has written.
_UNWRITTEN = b'"Write here.'


def check_notebook(notebook: Path | None, say: Callable[[str], Any]) -> bool:
    """Run the public checks on a notebook or .py and say per question how it did.

    Args:
        notebook: yours, or the name of its homework or lab; None takes the only one in the current folder
            that an assignment knows.
        say: told a line at a time.

    Returns:
        True when every public test passed.

    Raises:
        UsageError: there is no such file, it cannot be read, or no assignment has its name.
    """
    path = _named(notebook) if notebook else _only_one(Path.cwd())
    if not path.is_file():
        what = f"{notebook} is a folder" if path.is_dir() else f"there is no file {path}"
        raise UsageError(f"{what}: name your notebook, as in `mlsys-lab check hw1`")
    assignment = _assignment_of(path)
    own = _in_workspace(path)
    if own is not None:
        say(f"this is the copy that came with the course; yours is {own}")
    data, twin = path.read_bytes(), path.with_suffix(".py")
    try:
        cells = code_cells(data, path.suffix.lower())
    except NotebookError as error:
        raise UsageError(f"{path}: {error}") from None
    if path.suffix == ".ipynb" and _holds_more(twin, path, data):
        near = os.path.relpath(twin)
        say(f"{path.name} is read; {twin.name} differs from it: `mlsys-lab check {near}` reads that one")
    results, errors = _public_results(cells, assignment)
    for line in errors:
        say(f"while reading the notebook: {line}")
    for question in dict.fromkeys(r.question for r in results):
        asked = [r for r in results if r.question == question]
        say(_line(asked, question, assignment))
        for line in _both_sides(asked):
            say(f"  {line}")
    say(_total(results, assignment))
    return all(r.passed for r in results)


def _named(given: Path) -> Path:
    """A notebook by its path, or one's own by the name of its homework or lab."""
    if given.exists() or given.suffix:
        return given
    known = find(course_root())
    by_file = {a.source.stem: name for name, a in known.items()}
    name = by_file.get(given.name, given.name)
    if given.name != str(given) or name not in known:
        return given
    return _home(name, known) / f"{known[name].source.stem}.ipynb"


def _in_workspace(path: Path) -> Path | None:
    """The notebook of the same place in workspace/, where the one at hand is not in there but beside it."""
    path = path.resolve()
    for root in path.parents:
        if is_workspace(root):
            return None
        if is_workspace(root / "workspace"):
            own = root / "workspace" / path.relative_to(root)
            return own if own.is_file() else None
    return None


def _public_results(cells: list[str], assignment: Assignment) -> tuple[list[TestResult], list[str]]:
    namespace, problems = run_slice(cells, assignment.wanted)
    for name in assignment.wanted:
        if getattr(namespace.get(name), "__reference__", False) is True:  # of `skip`: it earns no points
            del namespace[name]
    session = LocalSession(
        namespace, call_s=assignment.limits.call_s, missing="is not defined in the notebook"
    )
    results = run_tests(assignment.public, session, seed=secrets.randbits(32))
    return results, [problem.public() for problem in problems]


def _total(results: list[TestResult], assignment: Assignment) -> str:
    score, most = sum(r.score for r in results), sum(r.points for r in results)
    rest = assignment.points - most
    more = f"; hidden tests and the clean start decide on {rest:g} more" if rest else ""
    return f"{score:g} of {counted(most, 'public point')}{more}"


def _line(results: list[TestResult], question: str, assignment: Assignment) -> str:
    passed = sum(r.passed for r in results)
    if passed == len(results):
        asked = assignment.questions.get(question)
        hidden = (asked.points if asked else 0.0) - sum(r.points for r in results)
        if hidden > 0:
            public, rest = counted(passed, "public test"), counted(hidden, "point")
            return f"{question}: correct so far ({public}; hidden ones decide on {rest})"
        return f"{question}: correct ({counted(passed, 'test')})"
    first = next(r for r in results if not r.passed)
    if all(r.passed or r.message.startswith("NotImplementedError") for r in results):
        return f"{question}: {_UNSOLVED}"
    share = f"{passed} of {len(results)} tests pass"
    return f"{question}: {share}. First that does not: {first.title}: {first.message}"


def _both_sides(results: list[TestResult]) -> list[str]:
    """Input, expected and yours of the first test that does not pass, where it compared values."""
    from autograder.feedback import described

    first = next((r for r in results if not r.passed), None)
    return described(first.mismatch) if first is not None and first.mismatch is not None else []


def _failing(results: list[TestResult]) -> list[str]:
    return list(dict.fromkeys(r.question for r in results if not r.passed))


def _only_one(folder: Path) -> Path:
    known = {a.source.stem for a in find(course_root(folder)).values()}
    found = [p for p in sorted(folder.glob("*.ipynb")) if p.stem in known]
    if len(found) != 1:
        raise UsageError("name the notebook to check, as in `mlsys-lab check hw1`")
    return found[0]


def _assignment_of(path: Path) -> Assignment:
    known = find(course_root(path.resolve().parent))
    for assignment in known.values():
        if assignment.source.stem == path.stem:
            return assignment
    stems = [f"{a.source.stem}.ipynb" for a in known.values()]
    fitting = [a for name, a in known.items() if path.stem.lower().endswith(f"_{name}")]
    if fitting:
        return fitting[0]
    raise UsageError(
        f"no lab or homework is called {path.stem}: rename the notebook to one of {', '.join(stems)}"
    )


def make_submission(homework: str, out: Path) -> Iterator[str]:
    """Pack a homework for handing in, after warning about what an instructor would see.

    Args:
        homework: `hw1`.
        out: the archive's folder; made where it is missing.

    Yields:
        Warnings, then where the archive is, a line each. Warnings never keep the archive from being made.

    Raises:
        UsageError: there is no such homework here, or the archive cannot be written (an older one stays).
    """
    known = find(course_root())
    if homework in known and known[homework].is_lab:
        raise UsageError(f"{homework} is a lab: its checks are for yourself, nothing of it is handed in")
    notebook = _home(homework, known) / f"{homework}.ipynb"
    if not notebook.is_file():
        raise UsageError(f"there is no {notebook}: is your work elsewhere, or not saved yet?")
    data = notebook.read_bytes()
    try:
        code_cells(data)
    except NotebookError as error:
        yield f"warning: {notebook.name}: {error}; it will get no points like this"
    else:
        yield from _warnings(data, notebook, homework)
    archive = out / f"{safe_name(getpass.getuser())}_{homework}.zip"
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(archive, _packed(notebook))
    except OSError as error:
        raise UsageError(
            f"cannot write {archive}: {error.strerror or error}. Name another folder with --out"
        ) from None
    yield f"made {archive} ({archive.stat().st_size / 1024:.0f} KiB): hand in this file"
    yield "rename it if your instructor knows you by another name: NAME_" + f"{homework}.zip"


def _home(name: str, known: Mapping[str, Assignment]) -> Path:
    """The folder of a homework or lab in the student's own tree: workspace/ where there is one, else this."""
    inside = Path("labs") if name in known and known[name].is_lab else Path("assignments", name)
    for root in (Path.cwd() / "workspace", course_root() / "workspace", course_root()):
        if (root / inside).is_dir():
            return root / inside
    names = ", ".join(n for n, a in known.items() if not a.is_lab)
    raise UsageError(f"there is no homework {name!r} here; there are: {names or 'none'}")


def _warnings(data: bytes, notebook: Path, homework: str) -> Iterator[str]:
    made_from, newest = stamped(data), newest_known(notebook)
    if made_from and order(made_from) < order(newest):
        yield f"warning: the notebook is of release {made_from}, the newest here is {newest}: run"
        yield "  `mlsys-lab update`, which keeps your work"
    twin = notebook.with_suffix(".py")
    if _holds_more(twin, notebook, data):
        yield f"warning: {twin.name} and {notebook.name} differ, and {notebook.name} is what counts: what is"
        yield f"  only in {twin.name} is not handed in; copy it into the notebook to bring it over"
    yield f"running {notebook.name} from a clean start"
    failing = _failing_cells(data, notebook.parent)
    yield from (f"warning: {line}" for line in failing)
    if not failing:
        yield "every cell runs"
    try:
        results, _ = _public_results(code_cells(data), _assignment_of(notebook))
    except UsageError:
        return
    assignment = _assignment_of(notebook)
    lines = {q: _line([r for r in results if r.question == q], q, assignment) for q in _failing(results)}
    unsolved = [q for q, line in lines.items() if line.endswith(_UNSOLVED)]
    yield from (f"warning: {line}" for q, line in lines.items() if q not in unsolved)
    if unsolved:
        yield f"warning: {_UNSOLVED}: {', '.join(unsolved)}"
    yield _total(results, assignment)
    if _UNWRITTEN in data:
        yield "warning: the written answer still says `Write here.`"


def _holds_more(twin: Path, notebook: Path, data: bytes) -> bool:
    """Does the .py differ, and is it the newer? An older one is as it was released, or not paired."""
    if not twin.is_file() or twin.stat().st_mtime <= notebook.stat().st_mtime:
        return False
    return _stale(data, twin.read_bytes())


def _stale(notebook: bytes, twin: bytes) -> bool:
    try:
        ours, theirs = code_cells(notebook), code_cells(twin, ".py")
    except NotebookError:
        return True
    return [_bare(c) for c in ours if c.strip()] != [_bare(c) for c in theirs if c.strip()]


def _bare(cell: str) -> str:
    """A cell as both forms spell it: jupytext comments magics out in a .py."""
    lines = (
        line.removeprefix("# ") if line.startswith(("# %", "# !")) else line for line in cell.splitlines()
    )
    return "\n".join(line.rstrip() for line in lines).strip()


def _failing_cells(data: bytes, folder: Path, timeout_s: int = 120) -> list[str]:
    """Run every cell in a fresh kernel; a line per cell that raises."""
    from autograder.notebook_tools import nbformat, without_the_grammar

    with without_the_grammar():
        from nbclient import NotebookClient
        from nbclient.exceptions import CellTimeoutError, DeadKernelError

    notebook = nbformat.reads(sanitised(data).decode("utf-8"), as_version=4)
    options = ["--log-level=40"]  # errors alone: what a kernel warns of is not the student's business
    if imports_colab(code_cells(data)):  # as where it is graded
        options.append("--IPKernelApp.exec_lines=from autograder.colab import stand_in; stand_in()")
    client = NotebookClient(
        notebook,
        timeout=timeout_s,
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=options,
    )
    try:
        client.execute()
    except CellTimeoutError:
        return [f"a cell runs for more than {timeout_s} s"]
    except DeadKernelError:
        return ["the kernel died while a cell ran"]
    failing = []
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                text = " ".join(f"{output.ename}: {output.evalue}".split())[:160]
                failing.append(f"code cell {number} raises {text}")
    return failing


def _packed(notebook: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (notebook, notebook.with_suffix(".py")):
            if path.is_file():
                archive.write(path, path.name)
    return stream.getvalue()
