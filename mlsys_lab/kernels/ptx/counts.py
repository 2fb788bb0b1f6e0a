"""What a launch did, counted per instruction; the report makes lines and totals of it."""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.code import Access
from mlsys_lab.kernels.ptx.observe import sectors, wavefronts

MOST_SAID = 10_000


@dataclass
class Traffic:
    """Requests of one instruction: of warps, what they cost, and the bytes that lanes asked for."""

    access: Access
    space: str
    requests: int = 0
    sectors: int = 0
    wavefronts: int = 0
    ideal: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Error:
    """Something wrong that the launch survived: see `CudaKernel` for the kinds."""

    kind: str
    line: int
    message: str


@dataclass
class Counts:
    """See the module."""

    lanes: Counter[int] = field(default_factory=Counter)
    warps: Counter[int] = field(default_factory=Counter)
    traffic: dict[tuple[int, str], Traffic] = field(default_factory=dict)
    errors: list[Error] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)

    def request(self, access: Access, space: str, rows: np.ndarray) -> None:
        """Count a memory instruction of some warps."""
        one = self.traffic.setdefault((access.index, space), Traffic(access, space))
        one.bytes += int(np.count_nonzero(rows >= 0)) * access.size
        if space == "global":
            requests, cost = sectors(rows)
            one.sectors += cost
        else:
            requests, cost, ideal = wavefronts(rows, access.size)
            one.wavefronts += cost
            one.ideal += ideal
        one.requests += requests

    def error(self, kind: str, line: int, message: str) -> None:
        """Keep the first of each kind and line."""
        if not any((e.kind, e.line) == (kind, line) for e in self.errors):
            self.errors.append(Error(kind, line, message))

    def say(self, form: str, data: bytes, text: Callable[[int], str]) -> None:
        """One call of printf: C's formats, arguments aligned to their size; `text` of an address for %s."""
        if len(self.printed) >= MOST_SAID:
            return
        at = 0

        def put(match: re.Match[str]) -> str:
            nonlocal at
            if match[0] == "%%":
                return "%"
            long, letter = set("lzjt") & set(match[2]), match[3]
            size = 8 if letter in "feEgGps" or long else 4
            at = -(-at // size) * size
            whole = "q" if size == 8 else "i"
            code = "d" if letter in "feEgG" else whole if letter in "dic" else whole.upper()
            (value,) = struct.unpack_from(f"<{code}", data, at)
            at += size
            shown: Any = chr(value & 255) if letter == "c" else text(value) if letter == "s" else value
            how = {"c": "s", "u": "d", "p": "x"}.get(letter, letter)
            return f"%{match[1]}{how}" % shown

        self.printed.append(re.sub(r"%([-+ #0]*\d*(?:\.\d+)?)([hlzjt]*)([diuoxXfeEgGcsp%])", put, form))
