"""What a course counts: days late, which attempt, weights; and plans that say what has no meaning."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from autograder.assignment import UsageError
from autograder.course_plan import CoursePlan, Late, Rule, load_plan
from autograder.grade import Graded
from autograder.marks import Mark
from autograder.policy import days_late, settled
from autograder.sender import Sender

DUE = datetime(2027, 2, 1, 23, 59, tzinfo=UTC)


def row(score: float, **changes: object) -> Graded:
    made = Graded("a", "Ada", True, "graded", "", score, 90.0, 10.0, 0.1, stamp={"submission": "f"})
    return replace(made, **changes)


def settle_one(score: float, rule: Rule, mark: Mark | None = None, **changes: object) -> Graded:
    before = row(score, **changes)
    (after,) = settled([before], rule, {"a": mark} if mark else {})
    return after


@pytest.mark.parametrize(
    ("after", "grace", "days"),
    [
        (timedelta(0), 0, 0),
        (timedelta(seconds=1), 0, 1),
        (timedelta(minutes=15), 15, 0),
        (timedelta(minutes=15, seconds=1), 15, 1),
        (timedelta(days=1), 0, 1),
        (timedelta(days=1, minutes=15), 15, 1),
        (timedelta(days=2, seconds=1), 0, 3),
        (timedelta(days=-3), 0, 0),
    ],
)
def test_a_day_late_begins_after_the_due_time_and_its_grace(after, grace, days):
    rule = Rule(Late(10, 50, grace), due=DUE)
    sent = (DUE + after).astimezone().isoformat()
    assert days_late(row(80, sender=Sender(sent_at=sent, late=True)), rule) == days


@pytest.mark.parametrize(
    ("score", "days", "manual", "deducted", "final"),
    [
        (80, 0, None, 0, 80),
        (80, 1, None, 9, 71),  # 10 % of 90
        (80, 1, 7, 10, 77),  # 10 % of 100, once the written answer counts
        (80, 7, None, 45, 35),  # at most 50 %
        (20, 7, None, 20, 0),  # never below zero
        (0, 2, None, 0, 0),
    ],
)
def test_what_is_deducted_is_a_percentage_of_the_points_that_can_be_had(score, days, manual, deducted, final):
    sent = (DUE + timedelta(days=days)).isoformat()
    mark = Mark("f", manual) if manual is not None else None
    found = settle_one(score, Rule(Late(10, 50), due=DUE), mark, sender=Sender(sent_at=sent))
    assert (found.late_days, found.deducted, found.final, found.manual_score) == (
        days,
        deducted,
        final,
        manual,
    )
    assert found.score == score


def test_where_only_the_marker_is_known_late_is_one_day_and_a_mark_by_hand_says_better():
    late, rule = Sender(late=True), Rule(Late(10, 50), due=DUE)
    assert settle_one(80, rule, sender=late).late_days == 1
    assert settle_one(80, rule, Mark("f", None, 3), sender=late).deducted == 27
    assert settle_one(80, rule, Mark("f", None, 0), sender=late).deducted == 0
    assert settle_one(80, Rule(), sender=late).deducted == 0


def test_a_mark_of_an_earlier_hand_in_does_not_count_for_a_newer_one():
    assert settle_one(80, Rule(), Mark("another", 9.0)).manual_score is None


@pytest.mark.parametrize(("attempts", "counted"), [("newest", "third"), ("best", "second")])
def test_the_newest_or_the_best_after_what_being_late_costs_counts(attempts, counted):
    tries = {"first": (95.0, 4), "second": (90.0, 0), "third": (40.0, 0)}
    rule = Rule(Late(10, 50), attempts, DUE)
    rows = [
        row(
            score,
            name=name,
            modified=n,
            sender=Sender(sent_at=(DUE + timedelta(days=days)).isoformat()),
        )
        for n, (name, (score, days)) in enumerate(tries.items())
    ]
    rows.append(row(0, name="broken", status="error", modified=9))
    assert [g.name for g in settled(rows, rule, {}) if g.counted] == [counted]


def test_settling_twice_changes_nothing():
    rule = Rule(Late(10, 50), due=DUE)
    once = settle_one(80, rule, Mark("f", 7.0), sender=Sender(late=True))
    assert settled([once], rule, {"a": Mark("f", 7.0)}) == [once]


PLAN = """
title = "CS6216"
attempts = "best"
late = {per_day = 10, at_most = 50, grace_minutes = 15}
[homework.hw1]
weight = 40
due = 2027-02-01T23:59:00+08:00
[homework.hw2]
weight = 40
attempts = "newest"
late = {per_day = 0}
[completion]
weight = 20
of = ["lab00", "reading01"]
[project]
weight = 40
replaces = ["hw2"]
parts = {proposal = 50, report = 50}
"""


def test_a_plan_is_read_as_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_plan(None) == CoursePlan()
    (tmp_path / "course.toml").write_text(PLAN)
    plan = load_plan(None)
    assert plan.rule("hw1").late == Late(10, 50, 15)
    assert (plan.rule("hw1").attempts, plan.rule("hw2").attempts) == ("best", "newest")
    assert plan.rule("hw1").due == datetime(2027, 2, 1, 15, 59, tzinfo=UTC)
    assert plan.rule("hw2").late == Late(0, 100, 0)
    assert plan.rule("hw9").late == Late(10, 50, 15)
    assert plan.project is not None
    assert (plan.weights, plan.project.replaces) == ({"hw1": 40, "hw2": 40}, ("hw2",))


def test_the_plan_in_the_instructors_page_is_valid_and_weighs_as_the_courses_own(tmp_path):
    text = (Path(__file__).resolve().parents[2] / "autograder" / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "course.toml").write_text(example)
    plan, own = load_plan(tmp_path / "course.toml"), CoursePlan()
    assert (plan.weights, plan.completion, plan.project) == (own.weights, own.completion, own.project)


def test_the_courses_own_plan_adds_up():
    plan = CoursePlan()
    assert plan.project is not None
    assert sum(plan.weights.values()) + plan.completion == 100
    assert sum(plan.weights[h] for h in plan.project.replaces) == plan.project.weight == 60
    assert sum(plan.project.parts.values()) == 100


WRONG = [
    ("late = {per_day = 200}", r"late\.per_day is a number from 0 to 100, got 200"),
    ("late = {a_day = 10}", r"there is no late\.a_day; known: per_day, at_most, grace_minutes"),
    ("late = 10", "late is a table, got 10"),
    ('attempts = "last"', 'attempts is "newest" or "best", got \'last\''),
    ("[homework.hw1]\nweight = true", r"homework\.hw1\.weight is a number from 0 to 100, got True"),
    ("[homework.hw1]\nwieght = 20", r"there is no homework\.hw1\.wieght; known: weight"),
    ("[homework.hw1]\ndue = 2027-02-01T23:59:00", r"homework\.hw1\.due is a time with its offset"),
    ("[homework.hw1]\nweight = 20", "the weights of homework and completion add up to 20, not 100"),
    (PLAN.replace("weight = 40\nreplaces", "weight = 30\nreplaces"), r"project\.weight is 30, .* weighs 40"),
    (
        PLAN.replace('replaces = ["hw2"]', 'replaces = ["hw7"]'),
        r"project\.replaces names hw7, which has no w",
    ),
    (PLAN.replace("report = 50", "report = 40"), r"project\.parts add up to 90, not 100"),
    (PLAN.replace('["lab00", "reading01"]', '"lab00"'), r"completion\.of is a list of names"),
    ("late =", "is not valid TOML"),
]


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[w[1][:24] for w in WRONG])
def test_a_plan_that_means_nothing_is_refused_in_one_line(text, said, tmp_path):
    (tmp_path / "course.toml").write_text(text)
    with pytest.raises(UsageError, match=said) as refused:
        load_plan(tmp_path / "course.toml")
    assert "course.toml" in str(refused.value)
    assert "\n" not in str(refused.value)
