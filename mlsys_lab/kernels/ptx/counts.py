"""What a launch did, counted per instruction; the report makes lines and totals of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mlsys_lab.kernels.printf import formatted
from mlsys_lab.kernels.ptx.code import Access
from mlsys_lab.kernels.ptx.observe import SECTOR, alike, sectors, wavefronts

MOST_SAID = 10_000


@dataclass
class Traffic:
    """Requests of one instruction: of warps, what they cost, and what they asked for.

    Attributes:
        bytes: of all lanes; in `distinct` what several lanes of a request ask for counts once.
        fewest: sectors that could hold them.
    """

    access: Access
    space: str
    requests: int = 0
    sectors: int = 0
    wavefronts: int = 0
    ideal: int = 0
    bytes: int = 0
    distinct: int = 0
    fewest: int = 0


def distinct(rows: np.ndarray, size: int) -> tuple[int, int]:
    """Bytes that requests ask for, each once, and the fewest sectors that could hold them.

    Args:
        rows: (warps, 32) byte addresses, -1 where a lane is off.
        size: bytes of an access.
    """
    found = np.sort(rows, axis=1)
    each = np.count_nonzero(np.diff(found, axis=1, prepend=-1), axis=1) * size
    return int(each.sum()), int((-(-each // SECTOR)).sum())


@dataclass(frozen=True)
class Error:
    """Something wrong that the launch survived: see `CudaKernel` for the kinds."""

    kind: str
    line: int
    message: str


@dataclass
class Counts:
    """See the module; `short` are the lines of barriers that opened with threads of their block gone."""

    lanes: Counter[int] = field(default_factory=Counter)
    warps: Counter[int] = field(default_factory=Counter)
    traffic: dict[tuple[int, str], Traffic] = field(default_factory=dict)
    errors: list[Error] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    short: set[int] = field(default_factory=set)

    def request(self, access: Access, space: str, rows: np.ndarray) -> None:
        """Count a memory instruction of some warps."""
        one = self.traffic.setdefault((access.index, space), Traffic(access, space))
        one.bytes += int(np.count_nonzero(rows >= 0)) * access.size
        if space == "global":
            same = len(rows) > 1 and rows.min() >= 0 and alike(rows, SECTOR)
            times = len(rows) if same else 1
            requests, cost = sectors(rows[:1] if same else rows)
            asked, fewest = distinct(rows[:1] if same else rows, access.size)
            one.sectors += cost * times
            one.distinct += asked * times
            one.fewest += fewest * times
            requests *= times
        else:
            requests, cost, ideal = wavefronts(rows, access.size, bool(access.atomic))
            one.wavefronts += cost
            one.ideal += ideal
        one.requests += requests

    def error(self, kind: str, line: int, message: str) -> None:
        """Keep the first of each kind and line."""
        if not any((e.kind, e.line) == (kind, line) for e in self.errors):
            self.errors.append(Error(kind, line, message))

    def say(self, form: str, data: bytes, text: Callable[[int], str]) -> None:
        """One call of printf; see `formatted`."""
        if len(self.printed) < MOST_SAID:
            self.printed.append(formatted(form, data, text))
