"""Feedback in the notebook: `check("hw1.q1a", my_function)` runs a question's public tests.

One line when all is right or nothing is written yet; a drawing of expected, yours and the difference when a
value is wrong. It never raises, so that Run All reaches the end of an unsolved notebook.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autograder.assignment import Assignment, UsageError, load_assignment
from autograder.compare import counted
from autograder.errors import NOT_RUN
from autograder.local import LocalSession
from autograder.tree import course_root

if TYPE_CHECKING:
    from autograder.run_tests import TestResult

_passed: dict[str, bool] = {}


class Verdict(int):
    """True or False that shows nothing as a cell's last value: what a check has to say, it has printed."""

    def __repr__(self) -> str:
        return repr(bool(self))

    def _ipython_display_(self) -> None:
        pass


def check(question: str, *functions: Any, **values: Any) -> Verdict:
    """Run the public tests of one question on your own work.

    Args:
        question: `hw1.q1a`: the homework or lab, and the question.
        functions: your functions or classes, each known by its own name.
        values: other values that the question asks for, by name.

    Returns:
        True when every public test of the question passed.

    Example:
        >>> check("hw1.q1a", count_misses)  # doctest: +SKIP
        hw1.q1a: correct so far, 2 public tests, 4 of 6 points; hidden tests decide on the rest
    """
    _passed[question] = False
    try:
        _passed[question] = _check(question, functions, values)
    except KeyboardInterrupt:
        print(f"{question}: stopped before it finished")
    except Exception as error:  # whatever happens, the learner's notebook goes on
        print(f"{question}: cannot be checked: {' '.join(str(error).split())[:300]}")
    return Verdict(_passed[question])


def solved(question: str) -> bool:
    """Has this question's check passed since the kernel started?"""
    return _passed.get(question, False)


def skip(question: str) -> Any:
    """Load the reference of a lab's question, so that a stuck learner can go on; homework has none.

    Args:
        question: `lab00.q1`.

    Returns:
        The reference function (a tuple of them where the exercise has several), or None and one line.
    """
    name, part = _split(question)
    if not name.startswith("lab"):
        print(f"{question}: only labs can be skipped; ask for help with a homework instead")
        return None
    from autograder.reference import reference

    try:
        found = list(reference(course_root(), name, part).values())
    except UsageError as error:
        print(f"{question}: {error}")
        return None
    print(f"{question}: the reference stands in for yours from here on (no points)")
    return found[0] if len(found) == 1 else tuple(found)


def _check(question: str, functions: tuple[Any, ...], values: Mapping[str, Any]) -> bool:
    from autograder.run_tests import run_tests

    name, part = _split(question)
    named = {getattr(f, "__name__", ""): f for f in functions} | dict(values)
    if any(getattr(v, "__reference__", False) is True for v in named.values()):
        print(f"{question}: this is the reference, which earns no points: run the cell of your own function")
        return False
    if any(v is ... or v is None for v in values.values()):
        print(f"{question}: not solved yet")
        return False
    assignment = _assignment(name)
    only = functions[0] if len(functions) == 1 and not values else None
    if only is not None and getattr(only, "__name__", "") in _asked_for(assignment):
        only = None  # it stands for itself; another that is asked for was not passed
    session = LocalSession(named, only, call_s=assignment.limits.call_s)
    results = run_tests(assignment.public, session, seed=secrets.randbits(32), question=part)
    if not results:
        raise LookupError(f"no test of {name} belongs to {part!r}")
    try:
        return _said(question, results, assignment)
    finally:
        _show_printed(session.printed.getvalue())


def _asked_for(assignment: Assignment) -> set[str]:
    """The names that an assignment's public tests ask a student for."""
    return {n for path in assignment.public for n in re.findall(r"\bstudent\.(\w+)", path.read_text("utf-8"))}


def _said(question: str, results: list[TestResult], assignment: Assignment) -> bool:
    """Say how the tests went; True where all passed."""
    failed = [r for r in results if not r.passed]
    if failed and all(r.message.startswith("NotImplementedError") for r in failed):
        print(f"{question}: not solved yet")
        return False
    if not failed:
        print(f"{question}: {_correct(results, assignment)}")
        return True
    from autograder.feedback import show_failure

    not_run = sum(r.message.endswith(NOT_RUN) for r in failed)
    show_failure(question, failed[0], len(results) - len(failed), len(results), not_run)
    return False


def _split(question: str) -> tuple[str, str]:
    name, dot, part = str(question).partition(".")
    if not (name and dot and part):
        raise LookupError(f"name a question as 'hw1.q1a', got {question!r}")
    return name, part


def _correct(results: list[TestResult], assignment: Assignment) -> str:
    public = sum(r.points for r in results)
    asked = assignment.questions.get(results[0].question)
    if asked is None or asked.points <= public:
        return f"correct, {counted(len(results), 'test')}, {counted(public, 'point')}"
    rest = f"{public:g} of {asked.points:g} points; hidden tests decide on the rest"
    return f"correct so far, {counted(len(results), 'public test')}, {rest}"


def _show_printed(text: str, most: int = 12) -> None:
    """What the learner's code printed while it was tested: print is how people look into their functions."""
    lines = [line[:200] for line in text.splitlines() if line.strip()]
    if lines:
        more = [f"... and {len(lines) - most} lines more"] if len(lines) > most else []
        print("\n  ".join(["your code printed:", *lines[:most], *more]))


def _assignment(name: str) -> Assignment:
    root = course_root()
    if name.startswith("lab"):
        checks = root / "labs" / "checks" / f"test_{name.removeprefix('lab')}.py"
        folder = root / "labs"
        found = Assignment(name, "", folder, folder, tuple(p for p in [checks] if p.is_file()), is_lab=True)
    else:
        folder = root / "assignments" / name
        there = (folder / "assignment.toml").is_file()
        found = load_assignment(folder) if there else Assignment(name, "", folder, folder, ())
    if not found.public:
        raise LookupError(f"{root} holds no checks for {name!r}: is the name right, and the folder complete?")
    return found
