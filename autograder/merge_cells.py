"""A student's notebook and a newer release of it, merged cell by cell.

The release gives the order and every cell that is the course's; the student's answers stand in the release's
places, and the student's own cells behind the cell that they followed. A cell is recognised by its grade_id,
its id, its text or the name that it defines, in this order. `known` are the ids and hashes of all cells that
earlier releases brought: a text that has such a hash is nobody's work.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Cell = dict[str, Any]

#: Of a cell's metadata, what the course says; all else is the editor's and stays.
OURS = ("nbgrader", "tags", "slideshow", "jupytext", "lines_to_next_cell")
ANSWERED = ("exercise", "predict")

#: What `student` puts in the place of a solution.
_STUB = re.compile(
    r'raise NotImplementedError\("your code here"\)|= None  # your answer|\*Your answer here\.\*'
)
_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)
_NAME = re.compile(r"^(?:def|class)\s+(\w+)|^(\w+)\s*(?::[^=\n]*)?=(?!=)", re.MULTILINE)


@dataclass
class Merged:
    """The merged cells and what became of the former ones; cells are named by their label.

    Attributes:
        renewed: the course's cells that have a new text. `added` were not there, or had been deleted.
        removed: the course's earlier cells that the release no longer has.
        edited: the course's cells that the student had changed: replaced, the change is in the backup alone.
        answers, own: how many of the student's answers and own cells stayed.
        notes: what else the student should know, a line each.
    """

    cells: list[Cell] = field(default_factory=list)
    renewed: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    answers: int = 0
    own: int = 0
    notes: list[str] = field(default_factory=list)


def merge(mine: Sequence[Cell], new: Sequence[Cell], known: Collection[str]) -> Merged:
    """Merge a student's cells with a newer release's.

    Args:
        mine: the student's cells, as in an .ipynb, sources as one text; they are not changed.
        new: the release's, each with its id.
        known: `marks` of every earlier release of this notebook.

    Returns:
        Cells with unique ids; merging them again with the same release gives the same cells.
    """
    matched = _matched(mine, new, known)
    place = {i: n for n, i in matched.items()}
    given_ids = {c["id"] for c in new}
    lost = given_ids.union(known).isdisjoint(_identity(c) for c in mine)
    asked = {grade_id(c) for c in new}
    former = {i for i, c in enumerate(mine) if i not in place and _is_the_courses(c, known, asked, lost)}
    there = {_identity(mine[i]) for i in place}
    former -= {i for i in former if _identity(mine[i]) in there and mark(mine[i]) not in known}  # a copy
    successors = _successors(mine, new, place, former)
    anchors = place | successors
    done = Merged()
    following: dict[int, list[Cell]] = {}
    at = -1
    for i, cell in enumerate(mine):
        if i in anchors:
            at = anchors[i]
        if i in former:
            if i not in successors:
                done.removed.append(label(cell))
            if mark(cell) not in known and mark(cell) != _base(cell):
                done.edited.append(label(cell))
        elif i not in place:
            following.setdefault(at, []).append(_own(cell, asked, done))
    own = [cell for cells in following.values() for cell in cells]
    done.own = len(own)
    _give_ids(own, given_ids, known)
    done.cells += following.get(-1, [])
    for n, given in enumerate(new):
        if n in matched:
            done.cells.append(_placed(mine[matched[n]], given, known, done))
        else:
            (done.renewed if n in successors.values() else done.added).append(label(given))
            done.cells.append(copy.deepcopy(given))
        done.cells += following.get(n, [])
    return done


def marks(cells: Iterable[Cell]) -> Iterator[str]:
    """What a release's cells are recognised by later: their ids and the hashes of their texts."""
    for cell in cells:
        yield mark(cell)
        if cell.get("id"):
            yield str(cell["id"])


def mark(cell: Cell) -> str:
    """A hash of a cell's kind and text, as `pair` makes a cell's id from it."""
    return hashlib.sha256(f"{cell['cell_type']}\0{cell['source']}".encode()).hexdigest()[:10]


def grade_id(cell: Cell) -> str:
    """A cell's name in nbgrader's metadata, or nothing."""
    marked = cell["metadata"].get("nbgrader")
    found = marked.get("grade_id") if isinstance(marked, Mapping) else None
    return found if isinstance(found, str) else ""


def is_answer(cell: Cell) -> bool:
    """Is it a cell in which the student writes?"""
    marked = cell["metadata"].get("nbgrader")
    if (isinstance(marked, Mapping) and marked.get("solution")) or _tags(cell) & {*ANSWERED}:
        return True
    return bool(_STUB.search(cell["source"]))  # of a course that marks its solutions alone


def label(cell: Cell) -> str:
    """What a report calls a cell: its grade_id, or how it begins."""
    first = next((line.strip() for line in cell["source"].split("\n") if line.strip()), "an empty cell")
    return grade_id(cell) or (f"`{first[:40]}...`" if len(first) > 40 else f"`{first}`")


def _matched(mine: Sequence[Cell], new: Sequence[Cell], known: Collection[str]) -> dict[int, int]:
    """Which cell of the student's stands for which of the release's: {place in new: place in mine}."""
    found: dict[int, int] = {}
    taken: set[int] = set()
    for key in (grade_id, _identity, _content, _defines):
        theirs: dict[Any, list[int]] = {}
        for i, cell in enumerate(mine):
            if i not in taken and key(cell):
                theirs.setdefault(key(cell), []).append(i)
        for n, given in enumerate(new):
            if n in found or (key is _defines and not is_answer(given)):
                continue
            fitting = [i for i in theirs.get(key(given), []) if i not in taken] if key(given) else []
            if fitting:
                found[n] = _best(fitting, mine, given, known)
                taken.add(found[n])
    return found


def _best(fitting: Sequence[int], mine: Sequence[Cell], given: Cell, known: Collection[str]) -> int:
    """Of several, copies or parts of a cell: an answer that was worked in, the one with the id, the first."""

    def worse(i: int) -> tuple[bool, bool, int]:
        return is_answer(given) and mark(mine[i]) in known, _identity(mine[i]) != given["id"], i

    return min(fitting, key=worse)


def _identity(cell: Cell) -> str:
    """A cell's id; Colab keeps it in the metadata."""
    found = cell.get("id") or cell["metadata"].get("id")
    return found if isinstance(found, str) else ""


def _content(cell: Cell) -> tuple[str, str] | None:
    text = cell["source"].strip()
    return (cell["cell_type"], text) if text else None


def _defines(cell: Cell) -> str:
    """The name that a code cell defines first: an answer in a notebook that lost ids and metadata."""
    found = _NAME.search(cell["source"]) if cell["cell_type"] == "code" else None
    return (found[1] or found[2]) if found else ""


def _base(cell: Cell) -> str:
    """The hash in an id that `pair` made of a text."""
    found = re.fullmatch(r"([0-9a-f]{10})(-\d+)?", _identity(cell))
    return found[1] if found else ""


def _successors(
    mine: Sequence[Cell], new: Sequence[Cell], place: Mapping[int, int], former: Collection[int]
) -> dict[int, int]:
    """What stands now where the course's cells stood whose text is new: own cells follow it."""
    found: dict[int, int] = {}
    free = [n for n in range(len(new)) if n not in place.values()]
    before = -1
    for i, cell in enumerate(mine):
        if i in place:
            before = place[i]
        elif i in former:
            after = min((n for n in place.values() if n > before), default=len(new))
            gap = [n for n in free if before < n < after and new[n]["cell_type"] == cell["cell_type"]]
            if gap:
                before = found[i] = gap[0]
                free.remove(before)
    return found


def _is_the_courses(cell: Cell, known: Collection[str], asked: Collection[str], ids_lost: bool) -> bool:
    """Is it a cell that an earlier release brought, and nobody's work? A copy is, of a stub alone."""
    if is_answer(cell):
        return mark(cell) in known  # a stub, or a copy of one, would undo the answer
    name = grade_id(cell)
    if name:
        return name not in asked and (ids_lost or _identity(cell) == name)
    if _base(cell) in known or mark(cell) == _base(cell):
        return True
    return ids_lost and mark(cell) in known


def _placed(cell: Cell, given: Cell, known: Collection[str], done: Merged) -> Cell:
    """The cell at a place of the release: the student's answer, or the release's with what ran in it."""
    untouched = mark(cell) in known or cell["source"] == given["source"]
    answer = is_answer(given) and not untouched
    kept = copy.deepcopy(cell if answer or cell["source"] == given["source"] else given)
    kept["metadata"] = {k: v for k, v in cell["metadata"].items() if k not in OURS} | copy.deepcopy(
        given["metadata"]
    )
    kept["id"] = given["id"]
    if not answer:
        if cell["cell_type"] != given["cell_type"]:
            kept = copy.deepcopy(given)
            done.renewed.append(label(given))
            return kept
        if cell["source"] != given["source"]:
            done.renewed.append(label(given))
            if not untouched:
                done.edited.append(label(given))
        return kept
    done.answers += 1
    if mark(given) not in known:
        done.notes.append(f"{label(given)}: the exercise's own text is new in this release; yours stays")
    return kept


def _own(cell: Cell, asked: Collection[str], done: Merged) -> Cell:
    """A cell of the student's own; what made it look like one of the course's is taken off it."""
    kept = copy.deepcopy(cell)
    name = grade_id(cell)
    if name:
        what = "another cell with its mark (copied, or split off)" if name in asked else "no longer asked"
        done.notes.append(f"{name}: {what}; it stays as your own cell")
    if name or _tags(cell) & {*ANSWERED}:
        kept["metadata"] = {k: v for k, v in kept["metadata"].items() if k not in OURS}
    return kept


def _give_ids(own: Iterable[Cell], given: Collection[str], known: Collection[str]) -> None:
    """Give each of the student's own cells an id that no other cell has and none of the course's ever had."""
    taken = set(given)
    for cell in own:
        name = cell.get("id")
        fits = isinstance(name, str) and _ID.fullmatch(name) and name not in taken
        if not fits or name in known or _base(cell) in known or _base(cell) == mark(cell):
            cell["metadata"].pop("id", None)
            name = fresh = f"own-{mark(cell)}"
            repeat = 2
            while name in taken:
                name, repeat = f"{fresh}-{repeat}", repeat + 1
            cell["id"] = name
        taken.add(str(name))


def _tags(cell: Cell) -> set[str]:
    tags = cell["metadata"].get("tags")
    return {t for t in tags if isinstance(t, str)} if isinstance(tags, list) else set()
