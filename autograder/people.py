"""Students in a CSV: which column holds what, in an instructor's words or a course system's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from autograder.sender import name_keys, plain_key
from autograder.table import Line

#: Headers, without case, spaces and hyphens, by what they hold.
COLUMNS = {
    "name": ("name", "fullname", "studentname"),
    "student": ("student",),
    "first": ("firstname", "first", "givenname"),
    "last": ("lastname", "last", "surname", "familyname"),
    "id": ("id", "studentid", "sid", "idnumber", "matriculationnumber"),
    "sis": ("sisuserid", "sisid"),
    "login": ("login", "sisloginid", "loginid", "username", "user"),
    "email": ("email", "emailaddress", "mail"),
    "section": ("section", "sections", "group"),
}
_MEANING = {header: key for key, headers in COLUMNS.items() for header in headers}
#: A header by which a row can be told from another.
TELLING = ("name", "student", "first", "last", "id", "sis", "login", "email")

#: Rows of Canvas' own that are nobody: what an assignment gives, how it is posted, the test student.
_NOBODY = re.compile(r"points possible|manual posting.*|student, test|test student", re.IGNORECASE)


def meaning(header: str) -> str:
    """What a column holds: a key of `COLUMNS`, or the header itself."""
    plain = re.sub(r"[\s_.-]", "", header.casefold())
    return _MEANING.get(plain, header.strip())


def unformula(cell: str) -> str:
    """A name as it was: Canvas writes one that begins with = as `="=..."`, we put an apostrophe before it."""
    wrapped = re.fullmatch(r'="(.*)"', cell)
    if wrapped:
        return wrapped[1]
    return cell[1:] if re.match(r"'[=+\-@]", cell) else cell


@dataclass(frozen=True)
class Person:
    """One student of a CSV.

    Attributes:
        row: the number of the row, from 1 with the header.
        ids: Canvas' ID and the SIS ID, or the only one there is.
    """

    row: int
    name: str = ""
    ids: tuple[str, ...] = ()
    login: str = ""
    email: str = ""
    section: str = ""

    @cached_property
    def names(self) -> set[str]:
        """The name in every form that it is compared in."""
        return name_keys(self.name)

    @property
    def shown(self) -> str:
        """How the person is called in tables."""
        return self.name or self.login or self.email or (self.ids[0] if self.ids else "")


def person(line: Line) -> Person | None:
    """The student of a row; None for Canvas' rows that are nobody.

    Columns are named as `meaning` names them.
    """
    parts = [line.get("last"), line.get("first")]
    student, name = unformula(line.get("student")), unformula(line.get("name"))
    name = name or ", ".join(unformula(part) for part in parts if part)
    login = line.get("login")
    if not name:
        name = student
    elif student and not login:
        login = student  # beside a name, `student` is what a submission is named by
    if _NOBODY.fullmatch(name) or (not name and any(map(_NOBODY.fullmatch, line.cells.values()))):
        return None
    ids = tuple(dict.fromkeys(line.get(key) for key in ("id", "sis") if line.get(key)))
    return Person(line.number, name, ids, login, line.get("email"), line.get("section"))


class Index:
    """Students by each thing that they may be known by; what fits two fits none."""

    def __init__(self, people: Sequence[Person]) -> None:
        self.tables: dict[str, dict[str, set[int]]] = {"id": {}, "email": {}, "login": {}, "name": {}}
        self.people = people
        for n, p in enumerate(people):
            for key in p.ids:
                self._put("id", key, n)
            self._put("email", p.email, n)
            self._put("login", p.login, n)
            for address in (p.email, p.login):  # a login may be written as an address, and the reverse
                if "@" in address:
                    self._put("login", address.partition("@")[0], n)
                    self._put("email", address, n)
            for name in p.names:
                self.tables["name"].setdefault(name, set()).add(n)

    def _put(self, table: str, key: str, n: int) -> None:
        if key:
            self.tables[table].setdefault(plain_key(key), set()).add(n)

    def find(
        self, *, ids: Iterable[str], email: str, logins: Iterable[str], names: Iterable[str]
    ) -> tuple[Person | None, str]:
        """A student by what is known of them, the surest first.

        Returns:
            The student and by what (`id 123`); or None and why not, if there is more to say than nobody.
        """
        wanted = [("id", i) for i in ids] + [("email", email)]
        wanted += [(table, login) for login in logins for table in ("login", "email", "id")]
        for table, key in wanted:
            found = self.tables[table].get(plain_key(key), set()) if key else set()
            if len(found) == 1:
                return self.people[next(iter(found))], f"{table} {key}"
        doubt = ""
        for name in names:
            found = set().union(*(self.tables["name"].get(key, set()) for key in name_keys(name)))
            if len(found) == 1:
                return self.people[next(iter(found))], "name"
            if len(found) > 1:
                rows = " and ".join(str(self.people[n].row) for n in sorted(found)[:3])
                doubt = f"rows {rows} have that name"
        return None, doubt
