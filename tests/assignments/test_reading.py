"""Twelve weeks of papers, each in the week of its labs, with two questions; no student gets the key."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from autograder.assignment import UsageError, find
from autograder.notebook import header
from autograder.reading import HOME, papers, reading_files
from autograder.release import release
from autograder.workspace import make_workspace

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / HOME
WEEKS = papers(FOLDER / "papers.toml")
KEY = tomllib.loads((FOLDER / "key.toml").read_text(encoding="utf-8"))


def test_there_are_twelve_weeks_each_with_another_paper_and_two_questions():
    assert [w["number"] for w in WEEKS] == list(range(1, 13))
    assert len({w["title"] for w in WEEKS}) == len({w["link"] for w in WEEKS}) == 12
    questions = [q for w in WEEKS for q in w["questions"]]
    assert len(set(questions)) == 24
    assert all(len(q) > 80 and q.endswith((".", "?")) for q in questions)


def test_each_paper_is_cited_with_authors_venue_year_and_a_link():
    for week in WEEKS:
        assert week["link"].startswith("https://"), week["title"]
        assert re.search(r"\b(20[0-2]\d)\b", week["venue"]), week["title"]
        assert len(week["authors"].split(", ")) >= 3


def test_a_paper_is_read_in_the_week_of_its_labs():
    week_of = {lab: w["number"] for w in WEEKS for lab in w["labs"]}
    assert len(week_of) == sum(len(w["labs"]) for w in WEEKS)
    for source in sorted((ROOT / "labs").glob("[0-9][0-9]*_*.py")):
        assert week_of[source.stem.split("_")[0]] == header(source)["week"], source.name


def test_each_weeks_file_holds_its_paper_its_questions_and_nothing_unfilled():
    files = reading_files(ROOT)
    for week in WEEKS:
        text = files[f"{HOME}/week{week['number']:02d}.md"].decode()
        for said in (week["title"], week["authors"], week["link"], *week["questions"]):
            assert said in text
        assert not re.search(r"\{\w+\}", text)
    page = files[f"{HOME}/README.md"].decode()
    assert all(f"(week{n:02d}.md)" in page for n in range(1, 13))
    assert "{" not in page


def test_the_key_answers_every_question():
    assert set(KEY) == {f"week{n:02d}" for n in range(1, 13)}
    assert all(set(week) == {"q1", "q2"} and all(len(a) > 60 for a in week.values()) for week in KEY.values())


def test_release_all_takes_the_readings_along_and_not_the_key(tmp_path):
    one = [find(ROOT)["lab00"]]
    release(one, tmp_path / "one", ROOT)
    assert not (tmp_path / "one" / HOME).exists()
    release(one, tmp_path / "all", ROOT, readings=True)
    assert {p.name for p in (tmp_path / "all" / HOME).iterdir()} == {
        "README.md",
        *(f"week{n:02d}.md" for n in range(1, 13)),
    }
    assert "assignments/reading/README.md" in (tmp_path / "all" / "README.md").read_text()
    release(one, tmp_path / "all", ROOT)  # what was released once stays
    assert "assignments/reading/README.md" in (tmp_path / "all" / "README.md").read_text()
    told = [p.read_text(encoding="utf-8") for p in (tmp_path / "all").rglob("*.md")]
    for answer in (a for week in KEY.values() for a in week.values()):
        assert not any(answer in text for text in told)
    make_workspace(tmp_path / "all", tmp_path / "workspace")  # a student's own
    assert (tmp_path / "workspace" / HOME / "week01.md").is_file()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda t: t.replace("number = 2", "number = 3"), "entry 2 is out of order or has not two questions"),
        (lambda t: t.replace('link = "https://arxiv.org/abs/1912.01703"', ""), "entry 3 has no link"),
        (lambda t: t + "\n[[week]]\nnumber = 13\n", "entry 13 has no subject, labs, authors"),
        (lambda t: t + "]", "is not valid TOML"),
    ],
)
def test_a_list_of_papers_that_lacks_something_is_refused_in_one_line(wrong, said, tmp_path):
    shutil.copytree(FOLDER, tmp_path / HOME)
    path = tmp_path / HOME / "papers.toml"
    path.write_text(wrong(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UsageError, match=said) as refused:
        reading_files(tmp_path)
    assert "\n" not in str(refused.value)
