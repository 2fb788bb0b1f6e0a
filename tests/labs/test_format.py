"""Every lab keeps the format that learners can rely on: length, rhythm, hints, figures, words."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbformat import NotebookNode

from autograder.assignment import find
from autograder.notebook import header
from autograder.overview import overview
from autograder.pair import read_source

ROOT = Path(__file__).resolve().parents[2]
ALL = find(ROOT)
CELLS = {name: read_source(a.source).cells for name, a in ALL.items()}
LABS = [name for name, a in ALL.items() if a.is_lab]
every = pytest.mark.parametrize("name", list(ALL))
labs = pytest.mark.parametrize("name", LABS)


def code(name: str) -> list[NotebookNode]:
    return [c for c in CELLS[name] if c.cell_type == "code"]


def prose(name: str) -> str:
    return "\n".join(c.source for c in CELLS[name] if c.cell_type == "markdown")


def tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def is_hint(cell: NotebookNode) -> bool:
    return any(t.startswith("hint-") for t in tags(cell))


def words(text: str) -> int:
    return len(re.findall(r"[^\s|]+", re.sub(r"<[^>]+>|https?://\S+", " ", text)))


def lines(cell: NotebookNode) -> int:
    return sum(bool(line.strip()) for line in cell.source.split("\n"))


def between(name: str) -> Iterator[int]:
    """Words of open text between each two code cells; hints are folded."""
    count = 0
    for cell in CELLS[name]:
        if cell.cell_type == "code":
            yield count
            count = 0
        elif not is_hint(cell):
            count += words(cell.source)


@labs
def test_a_lab_has_25_to_45_cells_and_at_most_1800_words(name):
    assert 25 <= len(CELLS[name]) <= 45
    assert words(prose(name)) <= 1800


@labs
def test_code_cells_of_a_lab_are_short(name):
    assert statistics.median(map(lines, code(name))) <= 8
    assert max(map(lines, code(name))) <= 25


@every
def test_code_fits_the_page(name):
    widest = 102  # what JupyterLab shows beside its file list
    for cell in code(name):
        assert max(map(len, cell.source.split("\n"))) <= widest, cell.id


@every
def test_nobody_reads_long_between_two_code_cells(name):
    # A homework states a problem where a lab goes on with one.
    assert max(between(name)) <= (90 if ALL[name].is_lab else 125)


@labs
def test_a_lab_has_four_figures_and_hooks_within_three_cells(name):
    drawn = [bool(re.search(r"\bshow\(", c.source)) for c in CELLS[name]]
    assert sum(drawn) >= 4
    assert any(drawn[:3])


@labs
def test_the_title_of_a_lab_is_its_question_and_its_only_h1(name):
    headings = re.findall(r"^# (.+)$", prose(name), re.MULTILINE)
    assert headings == [ALL[name].title]
    assert headings[0].endswith("?")


@labs
def test_the_opening_box_says_goal_time_points_parts_and_what_comes_before(name):
    box = CELLS[name][0].source
    assert all(f"**{word}**" in box for word in ("Goal", "Time", "Points", "Parts", "Before"))
    facts = header(ALL[name].source)
    assert f"{facts['minutes']} minutes" in box
    assert f"{facts['points']}:" in box


@every
def test_each_exercise_is_followed_by_its_check_and_three_hints(name):
    found = CELLS[name]
    places = [i for i, c in enumerate(found) if "exercise" in tags(c)]
    assert places
    for here, there in zip(places, [*places[1:], len(found)], strict=True):
        after = found[here + 1 : there]
        hints = [t for c in after for t in sorted(tags(c)) if t.startswith("hint-")]
        assert hints == ["hint-1", "hint-2", "hint-3"], found[here].id
        assert all("<details>" in c.source for c in after if is_hint(c))


@labs
def test_each_exercise_states_its_minutes_and_they_fit_an_hour(name):
    minutes = [int(m) for m in re.findall(r"^## Build .*\((\d+) minutes\)$", prose(name), re.MULTILINE)]
    assert len(minutes) == len(ALL[name].questions)
    assert sum(minutes) <= 60
    assert header(ALL[name].source)["minutes"] in range(45, 76)


@labs
def test_a_lab_predicts_and_draws_the_prediction(name):
    predicted = [c for c in code(name) if "predict" in tags(c)]
    assert predicted
    for cell in predicted:
        guess = re.search(r"^(\w+) = ", cell.source, re.MULTILINE)
        assert guess
        assert any(
            f", {guess[1]}" in c.source or f"({guess[1]}" in c.source for c in code(name) if c is not cell
        )


@labs
def test_a_lab_ends_with_what_is_known_where_it_is_wrong_and_a_link(name):
    end = CELLS[name][-1].source
    known = end.split("## What you now know")[1]
    paragraphs = [" ".join(p.split()) for p in known.strip().split("\n\n")]
    assert len(re.findall(r"[.](?: |$)", paragraphs[0])) == 3, "three sentences"
    assert paragraphs[1].startswith("Where this is wrong")
    assert "](https://" in paragraphs[2]


@every
def test_the_prose_has_no_exclamation_mark_and_no_emoji(name):
    text = re.sub(r"`[^`]*`|^    .*$", "", prose(name), flags=re.MULTILINE)
    assert not re.search(r"!(?!\[)", text)
    assert not re.search("[\U0001f300-\U0001faff\u2600-\u27bf]", text)


@labs
def test_later_cells_use_the_learners_function_only_where_its_check_passed(name):
    text = "\n".join(c.source for c in code(name))
    for question in ALL[name].questions:
        assert f'if solved("{name}.{question}") else skip("{name}.{question}")' in text


@labs
def test_a_learners_function_keeps_its_name_to_itself(name):
    """Bound again, `check` on the file would see the reference that stands in for it."""
    exercises = [c for c in code(name) if "exercise" in tags(c)]
    asked = {n.name for c in exercises for n in ast.parse(c.source).body if isinstance(n, ast.FunctionDef)}
    assert asked
    for cell in code(name):
        plain = "\n".join(line for line in cell.source.split("\n") if not line.startswith(("%", "!")))
        for node in [] if cell in exercises else ast.walk(ast.parse(plain)):
            assert not (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in asked)


def test_the_overview_is_up_to_date():
    sources = [ALL[name].source for name in LABS]
    shown = (ROOT / "labs" / "README.md").read_text(encoding="utf-8")
    assert shown == overview(sources), "python -m autograder.overview labs"


@labs
def test_the_overview_names_each_lab_with_its_facts(name):
    shown = (ROOT / "labs" / "README.md").read_text(encoding="utf-8")
    (row,) = [
        line for line in shown.splitlines() if f"({ALL[name].notebook.name})" in line and line[0] == "|"
    ]
    facts = header(ALL[name].source)
    assert f"| {facts['minutes']} |" in row
    assert facts["title"] in row
