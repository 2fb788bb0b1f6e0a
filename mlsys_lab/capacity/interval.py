"""An answer as an interval: low, mid, high, and on what it stands.

An exact quantity has width 0. Sums and products of intervals take ends with ends, as if all errors pointed
the same way: the result is at least as wide as it has to be, and its basis is the weakest that went into
it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from typing import Any

BASES = ("exact", "measured", "calibrated", "assumed")  # from the strongest to the weakest


@dataclass(frozen=True)
class Interval:
    """A number that is known between two ends.

    Attributes:
        low, mid, high: in the unit of what it answers.
        basis: "exact", "measured", "calibrated" or "assumed".
        rows: the published rows or sources that it was taken from.
    """

    low: float
    mid: float
    high: float
    basis: str = "exact"
    rows: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.basis not in BASES:
            raise ValueError(f"basis {self.basis!r} is none of {', '.join(BASES)}")
        if not self.low <= self.mid <= self.high:
            raise ValueError(f"expected low <= mid <= high, got {self.low}, {self.mid}, {self.high}")
        if self.basis == "exact" and self.low != self.high:
            raise ValueError(f"an exact quantity has width 0, got {self.low} to {self.high}")

    @classmethod
    def exact(cls, value: float) -> Interval:
        return cls(value, value, value)

    @classmethod
    def covering(
        cls, values: Sequence[float], share: float, basis: str, rows: Iterable[str] = ()
    ) -> Interval:
        """The interval that a further value of the same kind falls into with probability `share`.

        Args:
            values: positive, seen so far; at least two.
            share: for example 0.8.
            basis: where the values come from.
            rows: their names.

        Returns:
            Log-normal prediction interval with Student's t (n - 1 degrees of freedom), which widens as values
            get fewer; mid is the geometric mean.
        """
        if len(values) < 2 or min(values) <= 0:
            raise ValueError(f"expected at least two positive values, got {list(values)}")
        logs = [math.log(v) for v in values]
        mid, spread = statistics.fmean(logs), statistics.stdev(logs)
        reach = student_t(share, len(logs) - 1) * spread * math.sqrt(1 + 1 / len(logs))
        return cls(math.exp(mid - reach), math.exp(mid), math.exp(mid + reach), basis, tuple(rows))

    @property
    def is_exact(self) -> bool:
        return self.basis == "exact"

    def contains(self, value: float, *, slack: float = 0.0) -> bool:
        """Whether `value` lies inside, ends widened by the share `slack`."""
        return self.low * (1 - slack) <= value <= self.high * (1 + slack)

    def _with(self, other: Interval | float, low: float, mid: float, high: float) -> Interval:
        if not isinstance(other, Interval):
            return Interval(low, mid, high, self.basis, self.rows)
        basis = max(self.basis, other.basis, key=BASES.index)
        return Interval(low, mid, high, basis, tuple(dict.fromkeys(self.rows + other.rows)))

    def __add__(self, other: Interval | float) -> Interval:
        o = _ends(other)
        return self._with(other, self.low + o[0], self.mid + o[1], self.high + o[2])

    def __sub__(self, other: Interval | float) -> Interval:
        o = _ends(other)
        return self._with(other, self.low - o[2], self.mid - o[1], self.high - o[0])

    def __rsub__(self, other: float) -> Interval:
        return Interval(other - self.high, other - self.mid, other - self.low, self.basis, self.rows)

    def __mul__(self, other: Interval | float) -> Interval:
        o = _ends(other)
        if min(self.low, o[0]) < 0:
            raise ValueError("a product of intervals wants both at or above zero")
        return self._with(other, self.low * o[0], self.mid * o[1], self.high * o[2])

    def __truediv__(self, other: Interval | float) -> Interval:
        o = _ends(other)
        if self.low < 0 or o[0] <= 0:
            raise ValueError(
                "a quotient of intervals wants a dividend at or above zero and a divisor above it"
            )
        return self._with(other, self.low / o[2], self.mid / o[1], self.high / o[0])

    def __rtruediv__(self, other: float) -> Interval:
        return Interval.exact(other) / self

    __radd__ = __add__
    __rmul__ = __mul__

    def to_json(self) -> dict[str, Any]:
        return {"low": self.low, "mid": self.mid, "high": self.high, "basis": self.basis}

    def __str__(self) -> str:
        if self.is_exact:
            return f"{self.mid:g} (exact)"
        rows = f" from {len(self.rows)} rows" if self.rows else ""
        return f"{self.mid:.4g}, between {self.low:.4g} and {self.high:.4g} ({self.basis}{rows})"

    def _repr_html_(self) -> str:
        """The text, a line from low to high with a mark at mid, and the rows to unfold."""
        said = escape(str(self))
        if self.low == self.high:
            return f"<div>{said}</div>"
        at = 2 + 196 * (self.mid - self.low) / (self.high - self.low)
        line = (
            f'<svg role="img" aria-label="{said}" width="200" height="14" viewBox="0 0 200 14">'
            '<path d="M2 2V12M2 7H198M198 2V12" stroke="#767676" stroke-width="2" fill="none"/>'
            f'<circle cx="{at:.1f}" cy="7" r="5" fill="#0072B2"/></svg>'
        )
        rows = "".join(f"<li>{escape(row)}</li>" for row in self.rows)
        more = f"<details><summary>Sources</summary><ul>{rows}</ul></details>" if rows else ""
        return f"<div>{said}<br/>{line}{more}</div>"


def _ends(other: Interval | float) -> tuple[float, float, float]:
    if isinstance(other, Interval):
        return other.low, other.mid, other.high
    return other, other, other


@cache
def student_t(share: float, freedom: int) -> float:
    """The t for which the middle `share` of Student's distribution lies in (-t, t), by bisection of its
    integral.

    Args:
        share: between 0 and 1.
        freedom: degrees of freedom, at least 1.
    """
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)

    def middle(t: float, steps: int = 400) -> float:
        # Simpson's rule after x = tan(u) sqrt(freedom), under which the density is a power of the cosine.
        end = math.atan(t / math.sqrt(freedom))
        h = end / steps
        weights = [1 if i in (0, steps) else 4 if i % 2 else 2 for i in range(steps + 1)]
        total = sum(w * math.cos(i * h) ** (freedom - 1) for i, w in enumerate(weights)) * h / 3
        return 2 * scale * math.sqrt(freedom) * total

    low, high = 0.0, 1000.0
    for _ in range(60):
        t = (low + high) / 2
        low, high = (t, high) if middle(t) < share else (low, t)
    return t
