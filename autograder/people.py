"""Students in a CSV: which column holds what, in an instructor's words or a course system's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from autograder.sender import name_keys
from autograder.table import Line

#: Headers, without case and spaces, by what they hold.
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
    plain = re.sub(r"[^a-z]", "", header.casefold())
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
