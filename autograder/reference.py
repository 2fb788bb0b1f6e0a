"""The reference of a lab's exercise, for a learner who is stuck: labs only, never homework."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autograder.assignment import UsageError
from autograder.student import reference_code, unpacked_reference


def reference(root: Path, lab: str, question: str) -> dict[str, Callable[..., Any]]:
    """Load the reference functions of one exercise.

    Args:
        root: the course's tree; an instructor's has the solved source, a learner's the packed file.
        lab: `lab00`.
        question: `q1`.

    Returns:
        The functions and classes of the exercise's cell by name, each marked `__reference__ = True`.

    Raises:
        UsageError: there is no such lab or question.
    """
    found = _references(root, lab).get(question)
    if found is None:
        raise UsageError(f"{lab} has no exercise {question}")
    needs, cell = found
    namespace: dict[str, Any] = {"__name__": f"reference_{lab}_{question}"}
    exec(compile(needs, f"<what {lab}.{question} needs>", "exec"), namespace)
    exec(compile(cell, f"<reference of {lab}.{question}>", "exec"), namespace)
    names = [n.name for n in ast.parse(cell).body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    for name in names:
        namespace[name].__reference__ = True
    return {name: namespace[name] for name in names}


def _references(root: Path, lab: str) -> dict[str, tuple[str, str]]:
    number = lab.removeprefix("lab")
    packed = root / "labs" / "checks" / f"reference_{number}.json"
    if packed.is_file():
        return unpacked_reference(packed.read_text(encoding="utf-8"))
    sources = sorted((root / "labs").glob(f"{number}_*.py"))
    if not sources:
        raise UsageError(f"there is no {lab} in {root}: a reference exists for labs only")
    return reference_code(sources[0])
