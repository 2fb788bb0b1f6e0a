"""What a course counts: weights, due dates, what being late costs, which of several attempts.

It stands in `course.toml`, in the folder from which a class is graded, since all of it changes with the term.
Without the file the plan is the course's own, and nothing is deducted.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from autograder.assignment import UsageError

NAME = "course.toml"


@dataclass(frozen=True)
class Late:
    """What a late hand-in costs.

    Attributes:
        per_day: percent of the points that can be had, for each day begun after the due time.
        at_most: percent; 100 leaves nothing after enough days.
        grace_minutes: so late is not late yet.
    """

    per_day: float = 0.0
    at_most: float = 100.0
    grace_minutes: float = 0.0


@dataclass(frozen=True)
class Rule:
    """How the hand-ins of one homework become one score per student.

    Attributes:
        attempts: `newest` or `best`: which of a student's several counts.
        due: with its offset from UTC; None where only the course system's marker tells who is late.
    """

    late: Late = Late()
    attempts: str = "newest"
    due: datetime | None = None


@dataclass(frozen=True)
class Project:
    """A project that stands for some homeworks of whoever does one; `parts` are percents of it."""

    weight: float = 60.0
    replaces: tuple[str, ...] = ("hw2", "hw3", "hw4")
    parts: Mapping[str, float] = field(
        default_factory=lambda: {"proposal": 10.0, "mid-term": 20.0, "report": 40.0, "poster": 30.0}
    )


@dataclass(frozen=True)
class CoursePlan:
    """A course's plan.

    Attributes:
        weights: percent of the course's grade, by homework.
        completion: percent for the labs and readings that are done.
        of: the labs and readings; empty for all that anybody has a grade of.
        done_from: the share of a lab's points from which it is done.
    """

    path: Path | None = None
    rules: Mapping[str, Rule] = field(default_factory=dict)
    default: Rule = Rule()
    weights: Mapping[str, float] = field(
        default_factory=lambda: dict.fromkeys(("hw1", "hw2", "hw3", "hw4"), 20.0)
    )
    completion: float = 20.0
    of: tuple[str, ...] = ()
    done_from: float = 0.5
    project: Project | None = field(default_factory=Project)

    def rule(self, homework: str) -> Rule:
        """What holds for one homework."""
        return self.rules.get(homework, self.default)


def load_plan(path: Path | None) -> CoursePlan:
    """Read a course's plan.

    Args:
        path: None for `course.toml` in this folder, or the course's own plan where there is none.

    Raises:
        UsageError: the file is missing or says what has no meaning; the line names the key.
    """
    if path is None:
        if not Path(NAME).is_file():
            return CoursePlan()
        path = Path(NAME)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the course's plan {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    try:
        return _plan(path, table)
    except _WrongKey as error:
        raise UsageError(f"{path}: {error}") from None


class _WrongKey(Exception):
    """A key that is unknown or has a value of the wrong kind."""


def _plan(path: Path, table: Mapping[str, Any]) -> CoursePlan:
    _known(table, ("title", "late", "attempts", "homework", "completion", "project"), "")
    default = Rule(
        _late(table.get("late", {}), "late"), _attempts(table.get("attempts", "newest"), "attempts")
    )
    rules, weights = {}, {}
    homework = _table(table.get("homework", {}), "homework")
    for name, given in homework.items():
        where = f"homework.{name}"
        facts = _table(given, where)
        _known(facts, ("weight", "due", "late", "attempts"), where)
        rules[name] = Rule(
            _late(facts["late"], f"{where}.late") if "late" in facts else default.late,
            _attempts(facts.get("attempts", default.attempts), f"{where}.attempts"),
            _due(facts.get("due"), f"{where}.due"),
        )
        if "weight" in facts:
            weights[name] = _number(facts["weight"], f"{where}.weight", 100)
    plan = CoursePlan()
    done = _table(table.get("completion", {}), "completion")
    _known(done, ("weight", "of", "done_from"), "completion")
    made = CoursePlan(
        path=path,
        rules=rules,
        default=default,
        weights=weights or plan.weights,
        completion=_number(done.get("weight", 20 if not weights else 0), "completion.weight", 100),
        of=_names(done.get("of", []), "completion.of"),
        done_from=_number(done.get("done_from", 0.5), "completion.done_from", 1),
        project=_project(table["project"]) if "project" in table else None if weights else plan.project,
    )
    _adds_up(made)
    return made


def _project(given: Any) -> Project:
    facts = _table(given, "project")
    _known(facts, ("weight", "replaces", "parts"), "project")
    own = Project()
    parts = _table(facts.get("parts", own.parts), "project.parts")
    return Project(
        _number(facts.get("weight", own.weight), "project.weight", 100),
        _names(facts.get("replaces", list(own.replaces)), "project.replaces"),
        {name: _number(value, f"project.parts.{name}", 100) for name, value in parts.items()},
    )


def _adds_up(plan: CoursePlan) -> None:
    total = sum(plan.weights.values()) + plan.completion
    if abs(total - 100) > 1e-6:
        raise _WrongKey(f"the weights of homework and completion add up to {total:g}, not 100")
    if plan.project is not None:
        unknown = [name for name in plan.project.replaces if name not in plan.weights]
        if unknown:
            raise _WrongKey(f"project.replaces names {unknown[0]}, which has no weight")
        replaced = sum(plan.weights[name] for name in plan.project.replaces)
        if abs(replaced - plan.project.weight) > 1e-6:
            raise _WrongKey(
                f"project.weight is {plan.project.weight:g}, what it replaces weighs {replaced:g}"
            )
        parts = sum(plan.project.parts.values())
        if abs(parts - 100) > 1e-6:
            raise _WrongKey(f"project.parts add up to {parts:g}, not 100")


def _late(given: Any, where: str) -> Late:
    facts = _table(given, where)
    _known(facts, tuple(f.name for f in fields(Late)), where)
    most = {"per_day": 100.0, "at_most": 100.0, "grace_minutes": 60 * 24 * 365.0}
    return Late(**{key: _number(value, f"{where}.{key}", most[key]) for key, value in facts.items()})


def _attempts(given: Any, where: str) -> str:
    if given not in ("newest", "best"):
        raise _WrongKey(f'{where} is "newest" or "best", got {given!r}')
    return str(given)


def _due(given: Any, where: str) -> datetime | None:
    if given is None:
        return None
    if not isinstance(given, datetime) or given.tzinfo is None:
        raise _WrongKey(f"{where} is a time with its offset, as 2027-02-01T23:59:00+08:00; got {given}")
    return given


def _number(given: Any, where: str, most: float) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= most:
        raise _WrongKey(f"{where} is a number from 0 to {most:g}, got {given!r}")
    return float(given)


def _names(given: Any, where: str) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise _WrongKey(f'{where} is a list of names, as ["lab00", "reading01"]; got {given!r}')
    return tuple(given)


def _table(given: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise _WrongKey(f"{where} is a table, got {given!r}")
    return given


def _known(table: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in keys:
            place = f"{where}.{key}" if where else key
            raise _WrongKey(f"there is no {place}; known: {', '.join(keys)}")
