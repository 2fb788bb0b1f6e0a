"""What holds of each homework, found by folder: points, minutes, the bundled class, a mutant per question."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autograder.assignment import Assignment, find
from autograder.classroom import worker_packages
from autograder.notebook import code_cells
from autograder.run_tests import collect_tests, run_tests
from autograder.sandbox import Sandbox, View
from autograder.session import SandboxSession
from autograder.verify import mutant_kills

ROOT = Path(__file__).resolve().parents[2]
HOMEWORK = {name: a for name, a in find(ROOT).items() if not a.is_lab}
every = pytest.mark.parametrize("name", list(HOMEWORK))


def samples_of(name: str) -> list[str]:
    folder = HOMEWORK[name].folder / "samples"
    return sorted(p.name for p in folder.iterdir() if p.suffix in (".ipynb", ".py"))


def expected_of(name: str) -> dict[str, Any]:
    return tomllib.loads((HOMEWORK[name].folder / "samples" / "expected.toml").read_text(encoding="utf-8"))


def points_of(assignment: Assignment) -> dict[str, float]:
    """Points that each question's tests carry."""
    found: Counter[str] = Counter()
    for result in collect_tests([*assignment.public, *assignment.hidden]):
        found[result.question] += result.points
    return dict(found)


@pytest.fixture(scope="module")
def sandboxes(sandboxed: str) -> Iterator[dict[str, Sandbox]]:
    """A fork server per homework, started when first asked for."""
    made = {
        name: Sandbox(sandboxed, View(worker_packages(a, ROOT / "mlsys_lab"), None, a.preload), a.limits)
        for name, a in HOMEWORK.items()
    }
    yield made
    for sandbox in made.values():
        sandbox.close()


@every
def test_a_homework_is_worth_100_points(name):
    points = points_of(HOMEWORK[name])
    assert sum(points.values()) + HOMEWORK[name].clean_start == 100
    assert set(points) == set(HOMEWORK[name].questions)


@every
def test_the_head_says_how_it_is_graded(name):
    assignment = HOMEWORK[name]
    tests = collect_tests([*assignment.public, *assignment.hidden])
    public, hidden = (sum(t.points for t in tests if t.hidden is side) for side in (False, True))
    limits, text = assignment.limits, " ".join(assignment.source.read_text(encoding="utf-8").split("\n# "))
    call, question, whole = (f"{s:g} s" for s in (limits.call_s, limits.question_s, limits.submission_s))
    for said in (
        f"public tests here, {public:g} points in all",
        f"with other inputs, for {hidden:g} more",
        f"{assignment.clean_start:g} points are for the clean start",
        f"{call} for a call, {question} for a question, {whole} for the submission; in the clean start "
        f"{question} for a cell and {whole} for the notebook",
    ):
        assert said in text, said


@every
def test_the_stated_minutes_and_points_are_those_of_the_questions(name):
    assignment = HOMEWORK[name]
    text = assignment.source.read_text(encoding="utf-8")
    minutes = 0
    for question, points in points_of(assignment).items():
        stated = re.search(rf"\*\*{question} \((\d+) min, ([\d.]+) points?\)", text)
        assert stated, f"{question} does not say its minutes and points"
        assert float(stated[2]) == points, question
        minutes += int(stated[1])
    assert minutes <= 60 * tomllib.loads((assignment.folder / "assignment.toml").read_text())["hours"]


@every
def test_the_samples_are_what_their_script_writes(name):
    script = HOMEWORK[name].folder / "make_samples.py"
    spec = importlib.util.spec_from_file_location(f"make_samples_{name}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert sorted(module.SAMPLES) == samples_of(name)
    for sample in samples_of(name):
        stored = (HOMEWORK[name].folder / "samples" / sample).read_text(encoding="utf-8")
        assert module.written(sample) == stored, sample


@every
def test_the_table_of_the_samples_adds_up(name):
    points, table = points_of(HOMEWORK[name]), expected_of(name)
    assert {Path(sample).stem for sample in samples_of(name)} == set(table)
    for sample, row in table.items():
        kept = sum(worth for question, worth in points.items() if question not in row["lost"])
        assert row["tests"] == kept + sum(row["lost"].values()), sample
        assert row["score"] == round(row["tests"] * 100 / sum(points.values()), 2), sample


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("name", "sample"), [(name, sample) for name in HOMEWORK for sample in samples_of(name)]
)
def test_a_sample_earns_what_its_table_says(name, sample, sandboxes):
    assignment = HOMEWORK[name]
    path = assignment.folder / "samples" / sample
    session = SandboxSession(sandboxes[name], code_cells(path.read_bytes(), path.suffix), assignment)
    try:
        results = run_tests([*assignment.public, *assignment.hidden], session, seed=len(sample))
    finally:
        session.close()
    earned: Counter[str] = Counter()
    for result in results:
        earned[result.question] += result.score
    lost = expected_of(name)[path.stem]["lost"]
    points = points_of(assignment)
    assert {q: earned[q] for q in points} == {q: lost.get(q, worth) for q, worth in points.items()}


@every
def test_every_question_has_a_mutant(name):
    mutants = (HOMEWORK[name].folder / "mutants").glob("*.py")
    killed = {q for path in mutants for q in mutant_kills(path.read_text(encoding="utf-8"))}
    assert killed == set(HOMEWORK[name].questions)
