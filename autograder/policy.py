"""From several hand-ins to the score that counts: attempts, days late, points given by hand.

What is deducted is a percentage of the points that can be had, as in Canvas' own late policy, so that a day
costs everybody the same; no score goes below zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from autograder.course_plan import Rule
from autograder.grade import Graded
from autograder.marks import Mark
from autograder.submission import Submission

DAY_S = 86_400.0


def settled(
    rows: Mapping[str, Graded],
    submissions: Sequence[Submission],
    rule: Rule,
    marks: Mapping[str, Mark],
) -> Iterator[Graded]:
    """The rows that change once the whole class is graded: what counts of each student, and how much.

    Args:
        rows: by name; some submissions may have none yet.
        marks: what was given by hand, by name.
    """
    marked = {name: _marked(row, rule, marks.get(name)) for name, row in rows.items()}
    owned: dict[str, list[Submission]] = {}
    for s in submissions:
        if s.name in rows:
            owned.setdefault(s.owner, []).append(s)
    for mine in owned.values():
        counted = max(mine, key=lambda s: _rank(s, marked[s.name], rule)).name
        for s in mine:
            row = replace(marked[s.name], counted=s.name == counted)
            if row != rows[s.name]:
                yield row


def _rank(submission: Submission, row: Graded, rule: Rule) -> tuple[bool, float, bool, float, str]:
    """What can be graded before what cannot; then the best or the newest."""
    best = row.final if rule.attempts == "best" else 0.0
    return row.status == "graded", best, not submission.error, submission.modified, submission.name


def _marked(row: Graded, rule: Rule, mark: Mark | None) -> Graded:
    """The row with what was given by hand and what being late costs."""
    fresh = mark is not None and mark.hand_in == row.stamp.get("submission")
    manual = mark.score if mark is not None and fresh else None
    days = days_late(row, rule)
    if mark is not None and fresh and mark.late_days is not None:
        days = mark.late_days
    possible = row.max_score + (row.manual_points if manual is not None else 0.0)
    percent = min(rule.late.at_most, rule.late.per_day * days)
    deducted = round(min(row.score + (manual or 0.0), possible * percent / 100), 2)
    return replace(row, manual_score=manual, late_days=days, deducted=deducted)


def days_late(row: Graded, rule: Rule) -> int:
    """Days begun after the due time and its grace; one where the source only says that it was late."""
    sender = row.sender
    if rule.due is not None and sender.sent_at:
        late_s = (datetime.fromisoformat(sender.sent_at) - rule.due).total_seconds()
        late_s -= 60 * rule.late.grace_minutes
        return max(0, math.ceil(late_s / DAY_S))
    return int(sender.late)
