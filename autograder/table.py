"""A CSV that somebody else wrote: read in any order of columns, or refused in one line.

Spreadsheets write a byte order mark, semicolons where the comma is a decimal sign, and sometimes UTF-16; each
is told apart here, and what is wrong is said with the number of its row, as a spreadsheet counts them.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from autograder.assignment import UsageError
from autograder.naming import printable

SEPARATORS = (",", ";", "\t")
MOST_BYTES = 32 << 20


@dataclass(frozen=True)
class Line:
    """One row: its number in the file, from 1 with the header, and its cells by column."""

    number: int
    cells: Mapping[str, str]

    def get(self, column: str) -> str:
        """The cell's text, stripped; empty where there is no such column."""
        return self.cells.get(column, "").strip()


@dataclass(frozen=True)
class Sheet:
    """A CSV's columns, in its own spelling, and its rows that are not empty."""

    path: Path
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


def read_text(path: Path, what: str) -> str:
    """A CSV's text, with the byte order mark if there is one.

    Raises:
        UsageError: the file is missing, empty, too large or not UTF-8.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{what} {path} is larger than {MOST_BYTES >> 20} MiB: is it a CSV?")
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{what} {path} cannot be read: {error.strerror}") from None
    if not data.strip():
        raise UsageError(f"{what} {path} is empty: expected a header and a row per student")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UsageError(f"{what} {path} is UTF-16: save it as CSV UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{what} {path}, row {row}: byte {data[error.start]:#04x} is not UTF-8: save it as CSV UTF-8"
        ) from None
    if "\0" in text:
        raise UsageError(f"{what} {path} holds zero bytes: save it as CSV UTF-8")
    return text


def separator(text: str) -> str:
    """What separates the header's cells."""
    first = re.sub(r'"[^"]*"', "", text.split("\n", 1)[0])
    return max(SEPARATORS, key=first.count)


def read_sheet(path: Path, what: str, name: Callable[[str], str] = lambda column: column) -> Sheet:
    """Read a CSV.

    Args:
        what: what it is, for messages: `the roster`.
        name: a column's header, stripped, to the name that `Line.get` takes; the first of equal ones counts.

    Raises:
        UsageError: no such file, an empty one, another encoding, a row with more cells than the header.
    """
    text = read_text(path, what).removeprefix("\ufeff")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator(text))
    columns: tuple[str, ...] = ()
    lines = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = tuple(printable(cell) for cell in cells)
                continue
            if len(cells) > len(columns) and any(cell.strip() for cell in cells[len(columns) :]):
                raise UsageError(
                    f"{what} {path}, row {reader.line_num}: {len(cells)} cells where the header has "
                    f"{len(columns)}: quote a name that holds a comma"
                )
            row: dict[str, str] = {}
            for column, cell in zip(columns, cells, strict=False):
                row.setdefault(name(column), printable(cell))
            lines.append(Line(reader.line_num, row))
    except csv.Error as error:
        raise UsageError(f"{what} {path}, row {reader.line_num}: {error}: save it as CSV again") from None
    return Sheet(path, columns, tuple(lines))
