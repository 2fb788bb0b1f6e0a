"""The class list: whose submission is whose, who sent none, and which submissions are nobody's.

A submission is matched by what its source says of its sender: an id, then an e-mail address or login, then
the name in any order and spelling of accents. What fits two students fits none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autograder.assignment import UsageError
from autograder.naming import safe_name
from autograder.people import TELLING, Index, Person, meaning, person
from autograder.sender import NO_SUBMISSION, UNMATCHED, Sender, plain_key
from autograder.submission import Submission
from autograder.table import read_sheet


@dataclass(frozen=True)
class Roster:
    """A class list.

    Attributes:
        notes: what an instructor should know of it, a line each.
    """

    path: Path
    people: tuple[Person, ...]
    notes: tuple[str, ...] = ()

    @property
    def example(self) -> str:
        """How its students are named, by one of them."""
        return self.people[0].shown

    def match(self, submissions: Iterable[Submission]) -> list[Submission]:
        """The submissions, each with the student of the list who sent it, or marked as nobody's."""
        index = Index(self.people)
        return [self._matched(s, *_found(index, s)) for s in submissions]

    def _matched(self, submission: Submission, who: Person | None, how: str) -> Submission:
        sender = submission.sender
        if who is None:
            key = sender.key or f"unmatched:{submission.student.casefold()}"
            match = f"{UNMATCHED}: {how}" if how else UNMATCHED
            return replace(submission, sender=replace(sender, key=key, match=match))
        known = Sender(
            key=f"roster:{who.row}",
            ids=tuple(dict.fromkeys([*who.ids, *sender.ids])),
            login=who.login,
            email=who.email or sender.email,
            name=who.name,
            section=who.section,
            match=how,
            attempt=sender.attempt,
            late=sender.late,
            sent_at=sender.sent_at,
        )
        return replace(submission, student=who.shown, sender=known)

    def missing(self, matched: Iterable[Submission]) -> list[Submission]:
        """A row for each student of the list who sent nothing."""
        there = {s.sender.key for s in matched}
        return [
            Submission(
                name=safe_name(f"{p.shown}_none"),
                student=p.shown,
                origin=f"{self.path}, row {p.row}",
                error=NO_SUBMISSION,
                sender=Sender(
                    f"roster:{p.row}",
                    p.ids,
                    p.login,
                    p.email,
                    p.name,
                    p.section,
                    f"row {p.row} of the roster",
                ),
            )
            for p in self.people
            if f"roster:{p.row}" not in there
        ]


def _found(index: Index, submission: Submission) -> tuple[Person | None, str]:
    sender = submission.sender
    beginnings = [] if sender.key else _beginnings(submission.name)
    names = [sender.name or submission.student, *(b.replace("_", " ") for b in beginnings)]
    logins = [sender.login or submission.student, *beginnings]
    return index.find(ids=sender.ids, email=sender.email, logins=logins, names=names)


def _beginnings(name: str) -> list[str]:
    """Of a file's name without a course system behind it: the parts before each `_`, the longest first."""
    parts = name.split("_")
    return ["_".join(parts[:k]) for k in range(len(parts), 0, -1)]


def read_roster(path: Path) -> Roster:
    """Read a class list: any CSV with a header, or Canvas' exported gradebook.

    Raises:
        UsageError: no file, an empty one, another encoding, no column that tells students apart, a row
            without anybody, two students with the same id, login or address, or a name that stands twice
            without anything that tells the two apart.
    """
    sheet = read_sheet(path, "the roster", meaning)
    known = {meaning(column) for column in sheet.columns}
    if not known & set(TELLING):
        said = ", ".join(sheet.columns[:8])
        raise UsageError(
            f"the roster {path} has none of the columns name, student, id, login, email; it has: {said}"
        )
    people = []
    for line in sheet.lines:
        p = person(line)
        if p is None:
            continue
        if not p.shown:
            if line.get("section") or any(line.cells.values()):
                raise UsageError(f"the roster {path}, row {line.number}: no name, id, login or email in it")
            continue
        people.append(p)
    if not people:
        raise UsageError(f"the roster {path} has a header and no students")
    return Roster(path, tuple(people), _duplicates(path, people))


def _duplicates(path: Path, people: Sequence[Person]) -> tuple[str, ...]:
    seen: dict[tuple[str, str], Person] = {}
    for p in people:
        keys = [(("id", "second id")[k], plain_key(i)) for k, i in enumerate(p.ids)]
        keys += [("login", plain_key(p.login)), ("email", plain_key(p.email))]
        for kind, key in keys:
            other = seen.setdefault((kind, key), p) if key else p
            if other is not p:
                raise UsageError(
                    f"the roster {path}, row {p.row}: the {kind} {key} is also in row {other.row}"
                )
    notes = []
    for p in people:
        if p.name:
            other = seen.setdefault(("name", min(p.names, default=p.name)), p)
            if other is not p:
                said = f"the roster {path}, row {p.row}: the name {p.name} is also in row {other.row}"
                if not all(q.ids or q.login or q.email for q in (p, other)):
                    raise UsageError(f"{said}: give both an id or a login")
                notes.append(f"{said}; the two are told apart by id, login or address only")
    return tuple(notes)
