"""The grading as seen in a terminal: a progress bar and a live table, then the whole table.

Not in a terminal, a line per submission as it ends, then the same table. Names and messages come from
students: they are shown as text, never as markup or escape sequences.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from autograder.compare import counted
from autograder.grade import Graded
from autograder.report import earlier_gradebooks
from autograder.sender import NO_SUBMISSION, UNMATCHED
from autograder.submission import Submission, printable
from autograder.totals import Total

#: Rows that the live table keeps in view; the whole table follows at the end.
LATEST = 12


class Screen:
    """Shows a class being graded; a context manager.

    Args:
        total: how many submissions there are.
        console: where to; by default standard error, so that standard output stays a script's.
    """

    def __init__(self, total: int, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._rows: list[Graded] = []
        self._running: dict[str, float] = {}
        self._resumed = 0
        self._bar = Progress(
            TextColumn("Grading"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
        )
        self._task = self._bar.add_task("grading", total=total)
        # No refresh thread: the class's processes are forked from this one.
        self._live = Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> Screen:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def started(self, submission: Submission) -> None:
        self._running[submission.name] = time.monotonic()
        self._refresh()

    def done(self, graded: Graded, again: bool) -> None:
        self._rows.append(graded)
        self._resumed += again
        self._running.pop(graded.name, None)
        self._bar.advance(self._task)
        self._refresh()
        if not self.console.is_terminal and not again:
            verb = "" if graded.status == "error" else "graded "
            self.console.print(Text(f"{verb}{printable(graded.name)}: {said(graded)}"), soft_wrap=True)

    def _refresh(self) -> None:
        if not self.console.is_terminal:
            return
        running = Text("now: " + ", ".join(printable(n) for n in self._running), style="dim", no_wrap=True)
        self._live.update(Group(table(self._rows[-LATEST:]), running, self._bar), refresh=True)


def said(graded: Graded) -> str:
    """A row in a few words."""
    if graded.status == "error":
        return f"not graded: {printable(graded.message)}"
    return f"{graded.score:g} of {graded.max_score:g}"


def table(rows: Sequence[Graded]) -> Table:
    """The class as a table: score, time, and the first thing to say about each."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("Submission", no_wrap=True, max_width=30)
    shown.add_column("Score", justify="right", no_wrap=True)
    shown.add_column("", width=10, no_wrap=True)
    shown.add_column("Seconds", justify="right", no_wrap=True)
    shown.add_column("What to say", overflow="fold")
    for g in rows:
        bad = g.status == "error"
        score = "-" if bad and g.message != NO_SUBMISSION else f"{g.score:g} / {g.max_score:g}"
        full = round(10 * g.score / g.max_score) if g.max_score else 0
        style = "red" if bad else "green" if g.score == g.max_score else ""
        shown.add_row(
            Text(printable(g.name)),
            Text(score, style=style),
            Text("█" * full + "░" * (10 - full), style="dim" if bad else "cyan"),
            Text(f"{g.seconds:.1f}"),
            Text(remark(g), style="red" if bad else ""),
        )
    return shown


def totals_table(found: Sequence[Total]) -> Table:
    """The course's grades as a table; what nobody has yet is left out."""
    columns = [c for c in (found[0].points if found else ()) if any(t.points[c] is not None for t in found)]
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("Student", no_wrap=True, max_width=30)
    for column in [*columns, "total"]:
        shown.add_column(column, justify="right", no_wrap=True)
    shown.add_column("What to say", overflow="fold")
    for t in found:
        cells = ["-" if t.points[c] is None else f"{t.points[c]:.1f}" for c in columns]
        shown.add_row(
            Text(printable(t.who.shown)),
            *map(Text, cells),
            Text(f"{t.total:.1f}", style="bold"),
            Text("; ".join(map(printable, t.notes))),
        )
    return shown


def remark(graded: Graded) -> str:
    """What an instructor wants to know first about a row: what stopped it, where points were lost, notes."""
    nobody = [graded.sender.match] if graded.sender.match.startswith(UNMATCHED) else []
    if graded.status == "error":
        return "; ".join([*nobody, printable(graded.message)])
    parts = nobody + ([] if graded.counted else ["not counted: another hand-in is"])
    if graded.late_days:
        parts.append(f"{counted(graded.late_days, 'day')} late, {graded.deducted:g} off: {graded.final:g}")
    stopped = [t for t in graded.tests if t.message.startswith("Timeout")]
    if stopped:
        parts.append(f"ran out of time in {', '.join(dict.fromkeys(t.question for t in stopped))}")
    ended = [t for t in graded.tests if t.message.startswith("WorkerDied")]
    if ended:
        parts.append(f"its process ended in {', '.join(dict.fromkeys(t.question for t in ended))}")
    if graded.clean_start is not None and graded.clean_start_message and not graded.clean_start_ran:
        parts.append(f"no clean start: {_cut(printable(graded.clean_start_message), 70)}")
    if not parts and graded.score < graded.max_score:
        lost = [q for q, (earned, possible) in graded.by_question().items() if earned < possible]
        said = f"points lost in {_together(lost)}" if lost else ""
        parts.append(said if graded.score else "no points")
    parts += [_cut(_place_first(printable(note)), 90) for note in graded.notes[:1]]
    return "; ".join(p for p in parts if p)


def _place_first(note: str) -> str:
    """`...: KeyError: 'x' (cell 3, line 2)` as `cell 3, line 2: KeyError: 'x'`: a table cuts the end."""
    text, _, place = note.removesuffix(")").rpartition(" (")
    return f"{place}: {text.partition(': ')[2]}" if text and place.startswith("cell ") else note


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3].rstrip(", ") + "..."


def _together(questions: Sequence[str]) -> str:
    """`q1a, q1c, q2` as `q1ac, q2`."""
    grouped: dict[str, str] = {}
    for question in questions:
        stem, part = (question[:-1], question[-1]) if question[-1:].isalpha() else (question, "")
        grouped[stem] = grouped.get(stem, "") + part
    return ", ".join(stem + parts for stem, parts in grouped.items())


def closing(rows: Sequence[Graded], out: Path) -> str:
    """Where the results are, and the class in one line."""
    counted = [g for g in rows if g.status == "graded" and g.counted]
    mean = f"{sum(g.score for g in counted) / len(counted):.1f}" if counted else "none"
    bad = sum(g.status == "error" for g in rows)
    none = sum(g.message == NO_SUBMISSION for g in rows)
    line = f"{len(rows) - none} submissions, {bad - none} not graded; mean of the counted {mean}"
    nobodys = sum(g.sender.match.startswith(UNMATCHED) for g in rows)
    if any(g.sender.match for g in rows):
        line += f"\nRoster: {nobodys} submissions not in it, {none} students without a submission"
    kept = earlier_gradebooks(out)
    if kept:
        names = ", ".join(p.name for p in kept)
        line += f"\nThe grades of earlier sets of hand-ins are kept in {out}: {names}"
    return f"{line}\nReports: {out}/NAME/report.html   Grades: {out}/gradebook.csv, {out}/summary.json"
