"""What recomputing a module's activations in backward would save (Chen et al. 2016, arXiv 1604.06174).

Each row is a trace with that module checkpointed, as torch.utils.checkpoint would do it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from mlsys_lab._core.quantity import show

if TYPE_CHECKING:
    from mlsys_lab.capacity.liveness import Trace

_CELL = ' style="text-align:left;padding:2px 12px 2px 0"'


@dataclass(frozen=True)
class Saving:
    """One choice of what to recompute.

    Attributes:
        module: its path; `blocks.*` where all of a list are.
        modules: the paths that are recomputed.
        held_bytes: of activations that these hold at the peak now.
        peak_bytes: of the step when they are recomputed.
        saved_bytes: peak now less peak then; below zero where computing again needs more.
    """

    module: str
    modules: tuple[str, ...]
    held_bytes: int
    peak_bytes: int
    saved_bytes: int


@dataclass(frozen=True)
class Savings:
    """A table of choices, the one that saves most first.

    Attributes:
        peak_bytes: of the step as it is.
        rows: the choices.
    """

    peak_bytes: int
    rows: tuple[Saving, ...]

    def __iter__(self) -> Iterator[Saving]:
        return iter(self.rows)

    def __getitem__(self, module: str) -> Saving:
        """The row of a module.

        Raises:
            KeyError: it has none; the message names those that have.
        """
        for row in self.rows:
            if row.module == module:
                return row
        raise KeyError(f"{module!r} has no row: there are {', '.join(row.module for row in self.rows)}")

    def _cells(self) -> list[list[str]]:
        head = ["recomputed", "holds at the peak", "peak then", "saves"]
        rows = [
            [r.module, show(r.held_bytes, "B"), show(r.peak_bytes, "B"),
             f"{show(r.saved_bytes, 'B')}, {r.saved_bytes / self.peak_bytes:.1%}"]
            for r in self.rows
        ]  # fmt: skip
        return [head, *rows]

    def __str__(self) -> str:
        table = self._cells()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(c.ljust(n) for c, n in zip(row, widths, strict=True)).rstrip() for row in table]
        return "\n".join([f"peak now {show(self.peak_bytes, 'B')}", *lines])

    def _repr_html_(self) -> str:
        head, *rows = self._cells()
        top = "".join(f'<th scope="col"{_CELL}>{escape(c)}</th>' for c in head)
        body = "".join(
            f'<tr><th scope="row"{_CELL}>{escape(row[0])}</th>'
            + "".join(f"<td{_CELL}>{escape(c)}</td>" for c in row[1:])
            + "</tr>"
            for row in rows
        )
        said = f'<caption style="text-align:left">peak now {escape(show(self.peak_bytes, "B"))}</caption>'
        return f"<table>{said}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def savings(trace: Trace, most: int) -> Savings:
    """See `Trace.savings`."""
    if trace.again is None:
        raise ValueError("only a torch module's step can be traced with parts of it recomputed")
    if most < 1:
        raise ValueError(f"expected at least one row, got {most}")
    held = Counter({path: size for path, size in trace.modules_at_peak().items() if path})
    choices = _choices(held, trace.ran)
    largest = sorted(choices, key=lambda name: -_held(held, choices[name]))[:most]
    rows = []
    for name in largest:
        then = trace.again(recompute=[*trace.recomputed, *choices[name]]).peak_bytes
        saved = trace.peak_bytes - then
        rows.append(Saving(name, choices[name], _held(held, choices[name]), then, saved))
    return Savings(trace.peak_bytes, tuple(sorted(rows, key=lambda row: -row.saved_bytes)))


def _choices(held: Counter[str], ran: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Every module that holds something or has one below that does; of a list's members also all together."""
    paths = dict.fromkeys(path.rsplit(".", n)[0] for path in held for n in range(path.count(".") + 1))
    paths = dict.fromkeys(
        path for path in paths if path in ran
    )  # a list of modules has no forward of its own
    found: dict[str, tuple[str, ...]] = {path: (path,) for path in paths}
    together: dict[str, list[str]] = {}
    for path in paths:
        together.setdefault(re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", path), []).append(path)
    for name, members in together.items():
        if len(members) > 1:
            found[name] = tuple(members)
    return found


def _held(held: Counter[str], modules: tuple[str, ...]) -> int:
    return sum(size for path, size in held.items()
               if any(path == module or path.startswith(f"{module}.") for module in modules))  # fmt: skip
