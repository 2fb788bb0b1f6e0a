"""Merging by cell, case by case: which cell stands for which, where one's own go, what is said."""

from __future__ import annotations

import re
from typing import Any

import pytest

from autograder.merge_cells import Cell, marks, merge

STUB = 'def f(x):\n    raise NotImplementedError("your code here")'
SOLVED = "def f(x):\n    return x + 1"


def cell(source: str, ident: str = "", name: str = "", kind: str = "code", **metadata: Any) -> Cell:
    made: Cell = {"cell_type": kind, "source": source, "metadata": dict(metadata)}
    if name:
        made["metadata"]["nbgrader"] = {"grade_id": name, "solution": not name.endswith("check")}
    return made | ({"id": ident or name} if ident or name else {})


def course(*sources: str) -> list[Cell]:
    """Cells of a course, their ids made from the texts as `pair` makes them."""
    made = [cell(s) for s in sources]
    return [c | {"id": next(marks([c]))} for c in made]


def texts(cells: list[Cell]) -> list[str]:
    return [c["source"] for c in cells]


def test_an_own_cell_follows_the_renewed_form_of_the_cell_that_it_followed():
    old, new = course("a", "b", "c"), course("a", "b, newly said", "new", "c")
    mine = [*old[:2], cell("mine", "x1"), old[2]]
    merged = merge(mine, new, set(marks(old)))
    assert texts(merged.cells) == ["a", "b, newly said", "mine", "new", "c"]
    assert (merged.renewed, merged.added, merged.removed) == (["`b, newly said`"], ["`new`"], [])


def test_an_answer_without_id_and_metadata_is_known_by_the_name_that_it_defines():
    old = [cell("predicted = None  # your answer", "0123456789", tags=["predict"]), cell(STUB, name="q1")]
    mine = [cell("predicted = 22.2"), cell(SOLVED), cell("other = 1")]
    merged = merge(mine, old, set(marks(old)))
    assert texts(merged.cells) == ["predicted = 22.2", SOLVED, "other = 1"]
    assert [c["id"] for c in merged.cells[:2]] == ["0123456789", "q1"]
    assert (merged.answers, merged.own, merged.added) == (2, 1, [])
    assert merged.notes == []


def test_own_cells_get_ids_that_are_valid_unique_and_never_the_courses():
    (given,) = new = course("a")
    mine = [
        given,
        cell("1", "x"),
        cell("2", "x"),
        cell("3"),
        cell("4", "no id"),
        cell("5", given["id"]),
        cell("3"),
    ]
    merged = merge(mine, new, set(marks(new)))
    ids = [c["id"] for c in merged.cells]
    assert texts(merged.cells) == ["a", "1", "2", "3", "4", "5", "3"]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[\w-]{1,64}", name) for name in ids)
    assert ids[0] == given["id"]
    assert not set(ids[1:]) & set(marks(new))
    assert merge(mine, new, set(marks(new))).cells == merged.cells, "by content, not by chance"
    assert merge(merged.cells, new, set(marks(new))).cells == merged.cells


@pytest.mark.parametrize(("mine", "now", "noted"), [(STUB, "new", False), (SOLVED, SOLVED, True)])
def test_a_new_stub_replaces_the_old_one_and_no_answer(mine, now, noted):
    old, newer = cell(STUB, name="q1"), cell(STUB.replace("(x)", "(x, y)"), name="q1")
    merged = merge([cell(mine, name="q1")], [newer], set(marks([old])))
    assert texts(merged.cells) == [newer["source"] if now == "new" else now]
    assert bool([n for n in merged.notes if "the exercise's own text is new" in n]) is noted


def test_an_answer_to_what_is_no_longer_asked_becomes_ones_own_and_its_check_goes():
    old = [cell(STUB, name="q1"), cell("check(f)", name="q1-check"), *course("end")]
    mine = [cell(SOLVED, name="q1"), *old[1:]]
    merged = merge(mine, old[2:], set(marks(old)))
    assert texts(merged.cells) == [SOLVED, "end"]
    assert "nbgrader" not in merged.cells[0]["metadata"]
    assert merged.cells[0]["id"] not in set(marks(old))
    assert merged.notes == ["q1: no longer asked; it stays as your own cell"]
    assert merge(merged.cells, old[2:], set(marks(old))).cells == merged.cells


def test_a_copy_of_a_check_stays_as_ones_own_and_the_check_is_the_courses():
    check = cell("check(f)", name="q1-check")
    copy = cell("check(lambda x: x)", "c0py", "q1-check") | {"id": "c0py"}
    merged = merge([copy, check], [check], set(marks([check])))
    assert texts(merged.cells) == ["check(lambda x: x)", "check(f)"]
    assert "nbgrader" not in merged.cells[0]["metadata"]


def test_outputs_stay_where_the_text_does_and_go_with_it():
    old, new = course("a", "b"), course("a", "b 2")
    mine = [c | {"outputs": [{"x": 1}], "execution_count": 3} for c in old]
    merged = merge(mine, new, set(marks(old)))
    assert [c.get("outputs") for c in merged.cells] == [[{"x": 1}], None]


def test_the_editors_metadata_stay_and_the_courses_are_the_releases():
    (new,) = course("a")
    new["metadata"] = {"tags": ["setup"]}
    merged = merge([new | {"metadata": {"tags": ["skip"], "vscode": 1, "jupytext": 2}}], [new], set())
    assert merged.cells[0]["metadata"] == {"tags": ["setup"], "vscode": 1}
