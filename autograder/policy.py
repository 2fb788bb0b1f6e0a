"""From several hand-ins to the score that counts: attempts, days late, points given by hand.

What is deducted is a percentage of the points that can be had, as in Canvas' own late policy, so that a day
costs everybody the same; no score goes below zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from autograder.course_plan import Rule
from autograder.grade import Graded
from autograder.marks import Mark

DAY_S = 86_400.0


def settled(rows: Iterable[Graded], rule: Rule, marks: Mapping[str, Mark]) -> list[Graded]:
    """The rows once the whole class is graded: what counts of each student, and how much.

    Args:
        rows: of the class, in any order.
        marks: what was given by hand, by the name of the submission.

    Returns:
        The same rows in the same order.
    """
    marked = [_marked(row, rule, marks.get(row.name)) for row in rows]
    best: dict[str, Graded] = {}
    for row in marked:
        other = best.get(row.owner)
        if other is None or _rank(row, rule) >= _rank(other, rule):
            best[row.owner] = row
    return [replace(row, counted=best[row.owner] is row) for row in marked]


def _rank(row: Graded, rule: Rule) -> tuple[bool, float, float, str]:
    """What can be graded before what cannot; then the best or the newest."""
    best = row.final if rule.attempts == "best" else 0.0
    return row.status == "graded", best, row.modified, row.name


def _marked(row: Graded, rule: Rule, mark: Mark | None) -> Graded:
    """The row with what was given by hand and what being late costs."""
    fresh = mark is not None and mark.hand_in == row.stamp.get("submission")
    manual = mark.score if mark is not None and fresh else None
    days = days_late(row, rule)
    if mark is not None and fresh and mark.late_days is not None:
        days = mark.late_days
    row = replace(row, manual_score=manual, late_days=days)
    percent = min(rule.late.at_most, rule.late.per_day * days)
    deducted = round(min(row.score + (manual or 0.0), row.possible * percent / 100), 2)
    return replace(row, deducted=deducted)


def days_late(row: Graded, rule: Rule) -> int:
    """Days begun after the due time and its grace; one where the source only says that it was late."""
    sender = row.sender
    if rule.due is not None and sender.sent_at:
        late_s = (datetime.fromisoformat(sender.sent_at) - rule.due).total_seconds()
        late_s -= 60 * rule.late.grace_minutes
        return max(0, math.ceil(late_s / DAY_S))
    return int(sender.late)
