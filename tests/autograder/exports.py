"""A class of thirty as each course system exports it: the names that real classes have, and a Mac's litter.

Canvas' naming follows its ContentZipper and GradebookExporter, Gradescope's a published reader of its list,
Moodle's the folders that teachers post.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Student:
    """One of the class."""

    last: str
    first: str
    number: int

    @property
    def canvas_id(self) -> str:
        return str(90_000 + self.number)

    @property
    def sid(self) -> str:
        return f"A{self.number:06d}"

    @property
    def login(self) -> str:
        plain = unicodedata.normalize("NFKD", self.first + self.last).encode("ascii", "ignore").decode()
        return re.sub(r"\W", "", plain).lower()[:8] + str(self.number)

    @property
    def email(self) -> str:
        return f"{self.login}@example.edu"

    @property
    def name(self) -> str:
        return f"{self.first} {self.last}"

    @property
    def sortable(self) -> str:
        return f"{self.last}, {self.first}"

    @property
    def squeezed(self) -> str:
        """As Canvas begins a file's name: nothing but word characters, in lower case."""
        return re.sub(r"[^\w]", "", self.sortable.lower())


_NAMES = """Müller|Jörg; Gößler|Änne; Lovelace|Ada; García-López|Ana María; O'Brien|Seán; Nguyễn|Văn An;
王|伟; Wei|Zhang; van der Berg|Jan; Łukasiewicz|Jan; Øster|Søren; Çelik|Ümit; Smith|John;
Smith|Johanna; Dvořák|Antonín; Ng|Li; Kowalski_Nowak|Ewa; Abu Bakar|Siti; D'Souza|Ravi;
Šimić|Luka; Ó Súilleabháin|Niamh; Иванова|Анна; Tan|Wei Ming; Lim|Wei; St. John|Mary;
Åberg|Östen; Ibn Sina|Ali; Papadopoulos|Νίκος; Null|Robert; Zhang|San"""

CLASS = tuple(
    Student(*pair.strip().split("|"), number)
    for number, pair in enumerate(_NAMES.replace("\n", " ").split(";"), start=101)
)
assert len(CLASS) == 30

#: A student's notebook by their number.
Work = Callable[[Student], bytes]

LITTER = {"__MACOSX/._submissions": b"\0\5\x16\7", ".DS_Store": b"\0\0\0\1Bud1"}


def zipped(path: Path, members: Mapping[str, bytes], *, mac: bool = True) -> Path:
    """Write a zip, as a Mac packs a folder again: its litter, and names in UTF-8 without the flag for it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**members, **(LITTER if mac else {})}.items():
            archive.writestr(name, data)
    return path


def without_the_flag(path: Path) -> Path:
    """Take the flag for UTF-8 off every name of a zip, as Apple's archiver never sets it."""
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset + 1] &= ~0x08
            at = data.find(mark, at + 4)
    path.write_bytes(bytes(data))
    return path


def canvas_members(
    work: Work, *, late: frozenset[int] = frozenset(), homework: str = "toy"
) -> dict[str, bytes]:
    """Canvas' bulk download; every third also sent a picture, every fifth a copy of the same name."""
    members = {}
    for n, s in enumerate(CLASS):
        mark = "_LATE" if s.number in late else ""
        start = f"{s.squeezed}{mark}_{s.canvas_id}"
        again = "-1" if n % 5 == 0 else ""
        members[f"{start}_{7000 + n}_{homework}{again}.ipynb"] = work(s)
        if n % 3 == 0:
            members[f"{start}_{8000 + n}_my plot ({n}).png"] = b"\x89PNG"
    return members


def gradescope_members(
    work: Work, *, homework: str = "toy", created: str = "2027-02-01 03:04:05.678900000 Z"
) -> dict[str, bytes]:
    """Gradescope's export: folders, and the list of who sent them with Ruby's symbols as keys."""
    top = "assignment_4242_export"
    lines = ["---"]
    members = {}
    for n, s in enumerate(CLASS):
        folder = f"submission_{510_000 + n}"
        members[f"{top}/{folder}/{homework}.ipynb"] = work(s)
        members[f"{top}/{folder}/.DS_Store"] = b"\0"
        lines += [
            f"{folder}:",
            "  :submitters:",
            f'  - :name: "{s.name}"',
            f"    :sid: {s.sid}",
            f"    :email: {s.email}",
            f"  :created_at: {created}",
            "  :score: 0.0",
            "  :status: processed",
            "  :history:",
            *(["  - :id: 1", "    :created_at: 2027-01-31 01:00:00 Z"] if n % 4 == 0 else []),
        ]
        if n % 4:
            lines[-1] = "  :history: []"
    return {f"{top}/submission_metadata.yml": "\n".join(lines).encode(), **members}


def moodle_members(work: Work, *, homework: str = "toy", folders: bool = True) -> dict[str, bytes]:
    """Moodle's download, with a folder per student or, as its other setting has it, a prefix."""
    end = "/" if folders else ""
    return {
        f"{s.name}_{3_000_000 + s.number}_assignsubmission_file_{end}{homework}.ipynb": work(s) for s in CLASS
    }


def plain_members(work: Work, *, homework: str = "toy") -> dict[str, bytes]:
    """What a script of somebody's own wrote: `week 3/LATE-muller101~2~toy.ipynb`."""
    return {
        f"week 3/{'LATE-' if s.number % 10 == 0 else ''}{s.login}~{1 + s.number % 2}~{homework}.ipynb": work(
            s
        )
        for s in CLASS
    }


PLAIN = r"(?P<late>LATE-)?(?P<student>[^~]+)~(?P<attempt>\d)~.*\.ipynb"

HEADER = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
READ_ONLY = ["Current Score", "Final Score"]


def canvas_export(
    columns: Mapping[str, Mapping[int, str]],
    *,
    points: Mapping[str, str] | None = None,
    bom: bool = True,
    separator: str = ",",
) -> bytes:
    """Canvas' exported gradebook.

    Args:
        columns: cells by assignment and student number.
        points: what each assignment gives.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=separator, lineterminator="\n")
    writer.writerow([*HEADER, *columns, *READ_ONLY])
    writer.writerow([""] * 5 + ["Manual Posting"] + [""] * (len(columns) - 1 + len(READ_ONLY)))
    given = [(points or {}).get(c, "100.00") for c in columns]
    writer.writerow(["    Points Possible", "", "", "", "", *given, *["(read only)"] * len(READ_ONLY)])
    for s in CLASS:
        cells = [c.get(s.number, "") for c in columns.values()]
        writer.writerow([s.sortable, s.canvas_id, s.sid, s.login, 'CS6216 "A"', *cells, "88.5", "88.5"])
    writer.writerow(["Student, Test", "99999", "", "f00d", "CS6216", *[""] * len(columns), "0.0", "0.0"])
    return (b"\xef\xbb\xbf" if bom else b"") + stream.getvalue().encode()


def roster(columns: Mapping[str, Callable[[Student], str]], students: tuple[Student, ...] = CLASS) -> str:
    """A class list with columns of one's own."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[of(s) for of in columns.values()] for s in students])
    return stream.getvalue()
