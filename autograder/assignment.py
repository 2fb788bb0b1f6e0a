"""What a homework or a lab asks for: its files, questions, points and limits.

A homework says so in `assignments/hwN/assignment.toml`; a lab in the metadata of its notebook. Both become an
`Assignment`, so that release, verify and check have one thing to work on. The points of a test stand on the
test itself (`@pytest.mark.points`); nothing here repeats them but the sum.
"""

from __future__ import annotations

import ast
import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class UsageError(Exception):
    """Something was asked for in a way that cannot be done; the message is one line that names the fix."""


@dataclass(frozen=True)
class Limits:
    """What a submission may use.

    Times are seconds, sizes MiB; memory counts above what the preloaded worker already holds.
    """

    call_s: float = 10.0
    question_s: float = 30.0
    submission_s: float = 120.0
    memory_mb: int = 1024
    output_mb: float = 1.0


@dataclass(frozen=True)
class Question:
    """One question: its id (`q1`), a title, and the top-level names that its tests ask the student for.

    `points` is the sum of its tests, public and hidden; the students' copy of the toml holds it, since there
    are no hidden tests beside it.
    """

    id: str
    title: str
    names: tuple[str, ...] = ()
    points: float = 0.0


@dataclass(frozen=True)
class Assignment:
    """A homework or a lab, as found in its folder.

    Attributes:
        name: `hw1` or `lab00`.
        source: the solved py:percent source, `hw1.py`.
        public: the pytest files that students get.
        hidden: the pytest files that they never see.
        points: the sum of automatic points, clean start included.
        manual_points: points for written answers, outside `points`.
        clean_start: points for a notebook in which no cell raises from a clean start.
        modules: the modules of `mlsys_lab` that graded code may import.
        preload: modules that the worker imports once, before any submission.
        release: of the course that it is part of, as in `2026.1`; empty where the course says none.
        accepts: earlier releases whose hand-ins are graded too.
    """

    name: str
    title: str
    folder: Path
    source: Path
    public: tuple[Path, ...]
    hidden: tuple[Path, ...] = ()
    points: float = 10.0
    manual_points: float = 0.0
    clean_start: float = 0.0
    questions: Mapping[str, Question] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    preload: tuple[str, ...] = ("numpy",)
    limits: Limits = Limits()
    is_lab: bool = False
    release: str = ""
    accepts: tuple[str, ...] = ()

    @property
    def notebook(self) -> Path:
        """The paired notebook, beside the source."""
        return self.source.with_suffix(".ipynb")

    @property
    def wanted(self) -> tuple[str, ...]:
        """Every top-level name that some test asks for, in the order of the questions."""
        return tuple(dict.fromkeys(name for q in self.questions.values() for name in q.names))

    def seed(self) -> int:
        """Of the tests' random inputs: the same for a whole class, so that equal work gets equal marks.

        It follows from the tests, and not from the version that reports show.
        """
        return int(self._digest(b"inputs"), 16) % 2**32

    def version(self) -> str:
        """A hash of tests, assignment.toml and release: two gradings with the same version judged alike."""
        return self._digest(self.release.encode())

    def _digest(self, salt: bytes) -> str:
        digest = hashlib.sha256(salt)
        toml = self.folder / "assignment.toml"
        for path in [*self.public, *self.hidden, *([toml] if toml.exists() and not self.is_lab else [])]:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()[:12]


def load_assignment(folder: Path, *, private: Path | None = None) -> Assignment:
    """Read a homework from its folder.

    Args:
        folder: holds `assignment.toml`, the source it names, and `tests/public`, `tests/hidden`.
        private: an instructor's folder of further hidden tests, besides `private = PATH` in the toml.

    Raises:
        UsageError: no readable `assignment.toml`, or one that names what is not there.
    """
    path = folder / "assignment.toml"
    if not path.is_file():
        raise UsageError(f"{folder} holds no assignment.toml: name a homework (hw1) or a folder that has one")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    try:
        return _from_table(folder, table, private)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path}: {type(error).__name__}: {error}; see assignments/hw1/assignment.toml"
        ) from None


def _from_table(folder: Path, table: Mapping[str, Any], private: Path | None) -> Assignment:
    from autograder.versions import release_of

    hidden_folders = [folder / "tests" / "hidden"]
    if table.get("private"):
        hidden_folders.append((folder / str(table["private"])).resolve())
    if private is not None:
        hidden_folders.append(private)
    for extra in hidden_folders[1:]:
        if not extra.is_dir():
            raise UsageError(f"the folder of private tests {extra} is not there")
    public = tuple(sorted((folder / "tests" / "public").glob("test_*.py")))
    hidden = tuple(p for f in hidden_folders for p in sorted(f.glob("test_*.py")))
    marked = marked_points([*public, *hidden])
    questions = {
        key: Question(
            key, str(q["title"]), tuple(q.get("names", ())), float(q.get("points", marked.get(key, 0.0)))
        )
        for key, q in table.get("questions", {}).items()
    }
    return Assignment(
        name=str(table["name"]),
        title=str(table["title"]),
        folder=folder,
        source=folder / str(table.get("source", f"{table['name']}.py")),
        public=public,
        hidden=hidden,
        points=float(table.get("points", 100)),
        manual_points=float(table.get("manual_points", 0)),
        clean_start=float(table.get("clean_start", 0)),
        questions=questions,
        modules=tuple(table.get("modules", ())),
        preload=tuple(table.get("preload", ("numpy",))),
        limits=Limits(**table.get("limits", {})),
        release=str(table.get("release", "")) or release_of(folder.parent.parent),
        accepts=_releases(table.get("accepts", [])),
    )


def _releases(listed: Any) -> tuple[str, ...]:
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise ValueError(f'accepts is {listed!r}: write a list of releases, as in ["2026.1"]')
    return tuple(listed)


def load_lab(source: Path) -> Assignment:
    """Read a lab from its solved source, `labs/NN_name.py`: title, points and limits from its metadata."""
    from autograder.notebook import code_cells, header
    from autograder.versions import release_of

    cells = code_cells(source.read_bytes(), ".py")
    number = source.name.split("_")[0]
    facts = header(source)
    return Assignment(
        name=f"lab{number}",
        title=str(facts["title"]),
        folder=source.parent,
        source=source,
        public=tuple(p for p in [source.parent / "checks" / f"test_{number}.py"] if p.is_file()),
        points=float(facts["points"]),
        questions={key: Question(key, key, names) for key, names in asked_names(cells).items()},
        modules=("*",),
        limits=Limits(**facts.get("limits", {})),
        is_lab=True,
        release=release_of(source.parent.parent),
    )


def find(root: Path) -> dict[str, Assignment]:
    """Every lab and homework below a course's root, by name, in order: a new one is found by its folder."""
    labs = [p for p in sorted((root / "labs").glob("*.py")) if re.match(r"\d\d[a-z]?_", p.name)]
    homework = sorted(p.parent for p in (root / "assignments").glob("*/assignment.toml"))
    found = [load_lab(p) for p in labs] + [load_assignment(f) for f in homework]
    return {a.name: a for a in found}


def marked_points(tests: Sequence[Path]) -> dict[str, float]:
    """The points of each question, read off the marks of its tests without running anything."""
    found: dict[str, float] = {}
    for path in tests:
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # whoever runs the tests says what is wrong with the file
        for function in (n for n in tree.body if isinstance(n, ast.FunctionDef)):
            marks = {
                ast.unparse(d.func).rpartition(".")[2]: d.args[0].value
                for d in function.decorator_list
                if isinstance(d, ast.Call) and d.args and isinstance(d.args[0], ast.Constant)
            }
            if isinstance(marks.get("points"), int | float) and isinstance(marks.get("question"), str):
                question = str(marks["question"])
                found[question] = found.get(question, 0.0) + float(str(marks["points"]))
    return found


def asked_names(cells: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What each check cell hands to `check`, by question: `{"q1": ("stale_cells",)}`."""
    found: dict[str, tuple[str, ...]] = {}
    for cell in cells:
        try:
            tree = ast.parse(cell)
        except SyntaxError:
            continue
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
            if isinstance(call.func, ast.Name) and call.func.id == "check" and call.args:
                first = call.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str) and "." in first.value:
                    names = [a.id for a in call.args[1:] if isinstance(a, ast.Name)]
                    names += [k.arg for k in call.keywords if k.arg]
                    found[first.value.partition(".")[2]] = tuple(names)
    return found
