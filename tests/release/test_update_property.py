"""200 notebooks that students edited, one update: no text of theirs is lost, the course's are current."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest

from autograder.pair import write_notebook, write_percent
from autograder.update import update
from autograder.versions import FILE
from autograder.workspace import write_tree

Cell = dict[str, Any]
STUDENTS = 200
RELEASES = 8


def code(text: str, name: str = "", *, solution: bool = False, tags: tuple[str, ...] = ()) -> Cell:
    metadata: dict[str, Any] = {"tags": list(tags)} if tags else {}
    if name:
        metadata["nbgrader"] = {
            "grade_id": name,
            "solution": solution,
            "grade": not solution,
            "schema_version": 3,
        }
    return {"cell_type": "code", "source": text, "metadata": metadata}


def prose(text: str, name: str = "") -> Cell:
    return {**code(text, name, solution=True), "cell_type": "markdown"}


def stub(name: str, more: str = "") -> str:
    return (
        f'def {name}(x):\n    """The {name} of x.{more}"""\n    raise NotImplementedError("your code here")'
    )


def course(number: int) -> tuple[list[Cell], list[Cell]]:
    """Two releases of one notebook; what the second changes depends on the number."""
    rng = random.Random(number)
    old = [
        prose("# A lab\n\nIts goal."),
        code("import numpy as np", tags=("setup",)),
        prose("## Predict"),
        code("predicted = None  # your answer", tags=("predict",)),
    ]
    for q in ("q1", "q2", "q3"):
        old += [
            prose(f"## Exercise {q}\n\nWrite `{q}_answer`."),
            code(stub(f"{q}_answer"), f"lab-{q}", solution=True, tags=("exercise",)),
            code(f"check('lab.{q}', {q}_answer)", f"lab-{q}-check"),
            prose(f"A hint for {q}."),
            code(f"print({q}_answer(1))"),
        ]
    old += [prose("*Your answer here.*", "lab-essay"), prose("The end.")]
    new = copy.deepcopy(old)
    for cell in new:
        nothing = cell["metadata"].get("nbgrader", {}).get("solution") or "predict" in str(cell["metadata"])
        if not nothing and rng.random() < 0.4:
            cell["source"] += (
                "\n" + ("# " if cell["cell_type"] == "code" else "") + "As of the second release."
            )
    if number % 2:
        new[5]["source"] = stub("q1_answer", " New words.")
    if number % 3 == 1:
        del new[9:14]  # q2 is asked no more
    if number % 4 == 2:
        new[4:9], new[9:14] = new[9:14], new[4:9]
    for text in ("News.", "x = 'more news'"):
        new.insert(rng.randrange(len(new)), prose(text) if text == "News." else code(text))
    return old, new


def released(cells: list[Cell], version: str) -> tuple[bytes, bytes]:
    """A notebook and its .py as `release` writes them: ids from grade_id or content."""
    from autograder.pair import _content_id

    notebook = nbformat.v4.new_notebook(metadata={"mlsys_lab": {"version": version}})
    taken: set[str] = set()
    for cell in cells:
        made = nbformat.from_dict(
            {**cell, **({"outputs": [], "execution_count": None} if is_code(cell) else {})}
        )
        made["id"] = cell["metadata"].get("nbgrader", {}).get("grade_id") or _content_id(made, taken)
        taken.add(made["id"])
        notebook.cells.append(made)
    return write_notebook(notebook).encode(), write_percent(notebook).encode()


def is_code(cell: Cell) -> bool:
    return bool(cell["cell_type"] == "code")


def fixed(cell: Cell) -> bool:
    """Is it a cell in which nobody is asked to write?"""
    marked = cell["metadata"].get("nbgrader", {}).get("solution")
    return not marked and "predict" not in cell["metadata"].get("tags", [])


@dataclass
class Work:
    """A student's notebook, and what must be found of it: in the notebook, or at least in its backup."""

    notebook: dict[str, Any]
    rng: random.Random
    stay: list[str] = field(default_factory=list)
    backed_up: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    own: set[str] = field(default_factory=set)
    moved: bool = False
    ids_lost: bool = False

    @property
    def cells(self) -> list[Cell]:
        return self.notebook["cells"]  # type: ignore[no-any-return]

    def fresh(self) -> str:
        made = f"{self.rng.getrandbits(60):015x}"
        self.own.add(made)
        return made

    def pick(self, wanted: Callable[[Cell], bool]) -> int | None:
        found = [i for i, c in enumerate(self.cells) if wanted(c)]
        return self.rng.choice(found) if found else None

    def solve(self) -> None:
        i = self.pick(lambda c: not fixed(c) and c["source"] not in self.stay)
        if i is not None:
            text = f"    return x + {self.rng.random()}"
            cell = self.cells[i]
            start = cell["source"].split("\n")[0].split("=")[0]
            body = f"{start}\n{text}" if start.startswith("def") else f"predicted = {self.rng.random()}"
            cell["source"] = body if is_code(cell) else f"I think that {self.rng.random()}."
            self.stay.append(cell["source"])

    def edit(self) -> None:
        i = self.pick(lambda c: fixed(c) and c["id"] not in self.own and c["source"] not in self.backed_up)
        if i is not None:
            self.cells[i]["source"] += f"\n# mine {self.rng.random()}"
            self.backed_up.append(self.cells[i]["source"])

    def add(self) -> None:
        i = self.rng.randrange(len(self.cells) + 1)
        text = self.rng.choice(["y = {}", "%time {}", "!echo {}", "Note {}"]).format(self.rng.random())
        made = prose(text) if text.startswith("Note") else code(text)
        if is_code(made):
            made |= {"outputs": [], "execution_count": None}
        self.cells.insert(i, {**made, "id": self.fresh()})
        self.stay.append(text)
        self.added.append(text)

    def delete(self) -> None:
        i = self.pick(lambda c: c["source"] not in self.stay and c["source"] not in self.backed_up)
        if i is not None:
            del self.cells[i]

    def split(self) -> None:
        i = self.pick(lambda c: "\n" in c["source"] and c["source"] not in self.backed_up)
        if i is None:
            return
        cell, twin = self.cells[i], copy.deepcopy(self.cells[i])
        first, rest = cell["source"].split("\n", 1)
        theirs = not fixed(cell) or cell["id"] in self.own
        if cell["source"] in self.stay:
            self.stay.remove(cell["source"])
        cell["source"], twin["source"] = first, rest
        for part in self.rng.choice([(cell, twin), (twin,)]):
            part["id"] = self.fresh()
        self.cells.insert(i + 1, twin)
        (self.stay if theirs else self.backed_up).extend([first, rest])

    def copy(self) -> None:
        i = self.pick(lambda c: not fixed(c) or c["id"] in self.own)
        if i is not None:
            twin = copy.deepcopy(self.cells[i]) | {"id": self.fresh()}
            twin["source"] += f"\n# again {self.rng.random()}"
            self.cells.insert(self.rng.randrange(len(self.cells) + 1), twin)
            self.stay.append(twin["source"])
            self.moved = True

    def move(self) -> None:
        cell = self.cells.pop(self.rng.randrange(len(self.cells)))
        self.cells.insert(self.rng.randrange(len(self.cells) + 1), cell)
        self.moved = True

    def run(self) -> None:
        for n, cell in enumerate(filter(is_code, self.cells)):
            cell["execution_count"] = n + 1
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": [f"{n}\n"]}]

    def vs_code(self) -> None:
        for cell in self.cells:
            cell["metadata"]["vscode"] = {"languageId": "python"}
        self.notebook["metadata"]["language_info"] = {"name": "python", "version": "3.12.1"}

    def colab(self, lose: bool) -> None:
        self.ids_lost = lose
        self.notebook["nbformat_minor"] = 0
        self.notebook["metadata"]["colab"] = {"provenance": []}
        for cell in self.cells:
            known = cell.pop("id")
            cell["metadata"]["id"] = self.fresh()[:12] if lose else known
            cell["source"] = cell["source"].splitlines(keepends=True)


def edited(data: bytes, seed: int) -> Work:
    work = Work(json.loads(data), random.Random(seed))
    for cell in work.cells:
        cell["source"] = "".join(cell["source"])
    steps = [
        work.solve,
        work.solve,
        work.edit,
        work.add,
        work.add,
        work.delete,
        work.split,
        work.copy,
        work.move,
    ]
    for step in work.rng.choices([*steps, work.run], k=work.rng.randrange(1, 12)):
        step()
    work.rng.choice([work.vs_code, lambda: work.colab(False), lambda: work.colab(True), lambda: None])()
    return work


def texts(cells: list[Cell]) -> list[str]:
    return ["".join(c["source"]) for c in cells]


@pytest.fixture(scope="module")
def updated(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, Work], dict[str, int], list[str]]:
    """A tree after the update: the students' work as it was, by path; its release; what a second one said."""
    tmp = tmp_path_factory.mktemp("update")
    releases = [[released(c, v) for c, v in zip(course(n), "12", strict=True)] for n in range(RELEASES)]
    number = {f"labs/n{s:03}.ipynb": s % RELEASES for s in range(STUDENTS)}
    for place, which in (("mine", 0), ("newer", 1)):
        files = {FILE: f"{which + 1}\n".encode()}
        for path, n in number.items():
            files |= {path: releases[n][which][0], path.replace(".ipynb", ".py"): releases[n][which][1]}
        write_tree(files, tmp / place, kind="release")
    works = {path: edited((tmp / "mine" / path).read_bytes(), seed) for seed, path in enumerate(number)}
    for path, work in works.items():
        (tmp / "mine" / path).write_text(json.dumps(work.notebook), encoding="utf-8")
    update(tmp / "newer", lambda line: None, tmp / "mine")
    before = {p: p.read_bytes() for p in (tmp / "mine").rglob("*") if p.is_file()}
    said: list[str] = []
    update(tmp / "newer", said.append, tmp / "mine")
    assert {p: p.read_bytes() for p in (tmp / "mine").rglob("*") if p.is_file()} == before
    return tmp, works, number, said


def test_a_second_update_changes_nothing_and_says_so(updated):
    assert len(updated[3]) == 1
    assert updated[3][0].endswith("mine: nothing to change, it is of release 2")


def test_no_text_of_a_student_is_lost(updated):
    tmp, works, number, _ = updated
    for path, work in works.items():
        stubs = texts(course(number[path])[0])  # the course's text, though in a part that was split off
        now = texts(json.loads((tmp / "mine" / path).read_bytes())["cells"])
        for text in work.stay:
            assert text in now or text in stubs, (path, text)
        (backup,) = (tmp / "mine" / path).parent.glob(Path(path).name + ".1.bak") if work.cells else [None]
        assert json.loads(backup.read_bytes()) == work.notebook
        kept = texts(json.loads(backup.read_bytes())["cells"])
        assert all(text in kept or text in now for text in work.backed_up)


def test_every_cell_of_the_course_is_current_and_in_its_place(updated):
    tmp, works, number, _ = updated
    for path, work in works.items():
        old, _ = (c for c in course(number[path]))
        new = json.loads((tmp / "newer" / path).read_bytes())["cells"]
        now = json.loads((tmp / "mine" / path).read_bytes())["cells"]
        ids = [c["id"] for c in new]
        assert [c["id"] for c in now if c["id"] in ids] == ids, path
        by_id = {c["id"]: c for c in now}
        for cell in new:
            there = by_id[cell["id"]]
            assert {k: v for k, v in there["metadata"].items() if k in ("nbgrader", "tags")} == cell[
                "metadata"
            ]
            if fixed(cell):
                assert "".join(there["source"]) == "".join(cell["source"]), path
        grade_ids = [c["metadata"]["nbgrader"]["grade_id"] for c in now if "nbgrader" in c["metadata"]]
        assert len(grade_ids) == len(set(grade_ids)), path
        outdated = set(texts(old)) - set(texts(new)) - set(work.stay) - set(work.backed_up)
        assert not outdated & set(texts(now)), (path, outdated & set(texts(now)))


def test_a_students_own_cell_still_follows_the_cell_that_it_followed(updated):
    tmp, works, _, _ = updated
    seen = 0
    for path, work in works.items():
        now = json.loads((tmp / "mine" / path).read_bytes())["cells"]
        ids = [c["id"] for c in json.loads((tmp / "newer" / path).read_bytes())["cells"]]
        if work.moved or work.ids_lost:
            continue
        mine = {"".join(c["source"]): i for i, c in enumerate(work.cells)}
        for at, cell in enumerate(now):
            text = "".join(cell["source"])
            if text in work.added and mine[text]:
                before = work.cells[mine[text] - 1]
                followed = before.get("id") or before["metadata"]["id"]
                if followed in ids:
                    assert next(c["id"] for c in reversed(now[:at]) if c["id"] in ids) == followed, (
                        path,
                        text,
                    )
                    seen += 1
    assert seen > 20


def test_what_comes_out_is_valid_and_its_py_agrees(updated):
    tmp, works, _, _ = updated
    for path in works:
        notebook = nbformat.read(tmp / "mine" / path, as_version=4)
        nbformat.validate(notebook)
        twin = jupytext.read((tmp / "mine" / path).with_suffix(".py"), fmt="py:percent")
        spelled = [(c.cell_type, c.source.strip("\n")) for c in notebook.cells]
        assert [(c.cell_type, c.source.strip("\n")) for c in twin.cells] == spelled, path
