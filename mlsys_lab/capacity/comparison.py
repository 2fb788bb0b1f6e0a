"""Plans side by side in a notebook: the command's table, and a bar per plan for memory, time and cost.

A bar ends at the middle of an interval, a thin line goes from low to high; the numbers stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from mlsys_lab._core.style import PALETTE
from mlsys_lab.capacity.answers import Answer
from mlsys_lab.capacity.interval import Interval
from mlsys_lab.capacity.plan_file import as_plan
from mlsys_lab.capacity.plan_found import searched
from mlsys_lab.capacity.plans import ROWS, answer, bases, cell, side_by_side

#: What is drawn, in which colour.
DRAWN = {"peak_bytes": "memory", "time_s": "compute", "cost_usd": "communication"}
WIDE = 14.0  # em, of the longest bar
_CELL = ' style="text-align:left;padding:2px 12px 2px 0"'


@dataclass(frozen=True)
class Comparison:
    """Answers of several plans, by name; a notebook shows them as a table with bars, `print` as text."""

    found: Mapping[str, Answer]

    def __str__(self) -> str:
        return "\n".join(side_by_side(self.found))

    def _repr_html_(self) -> str:
        heads = "".join(f'<th scope="col"{_CELL}>{escape(name)}</th>' for name in self.found)
        body = "".join(
            f'<tr><th scope="row"{_CELL}>{escape(title)}</th>'
            + "".join(f"<td{_CELL}>{escape(cell(key, a))}</td>" for a in self.found.values())
            + "</tr>"
            for key, title in ROWS.items()
            if any(key in a.values for a in self.found.values())
        )
        notes = "".join(f"<p>{escape(line)}</p>" for line in bases(self.found))
        bars = "".join(self._bars(key) for key in DRAWN)
        table = f"<table><thead><tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table>"
        return f"<div>{table}{notes}{bars}</div>"

    def _bars(self, key: str) -> str:
        """A bar per plan that has the number; nothing where fewer than two have it."""
        ends = {name: _ends(a.values[key]) for name, a in self.found.items() if key in a.values}
        if len(ends) < 2:
            return ""
        most = max(high for _, _, high in ends.values()) or 1.0
        colour = PALETTE[DRAWN[key]]
        rows = []
        for name, (low, mid, high) in ends.items():
            at, to, end = (WIDE * value / most for value in (low, mid, high))
            bar = (
                f'<span style="display:inline-block;height:0.8em;width:{to:.2f}em;background:{colour};'
                f'opacity:0.8"></span>'
            )
            line = (
                f'<span style="position:absolute;left:{at:.2f}em;top:0.6em;width:{max(end - at, 0.0):.2f}em;'
                f'border-top:2px solid currentColor"></span>'
                if high > low
                else ""
            )
            drawn = (
                f'<td style="position:relative;width:{WIDE}em" aria-hidden="true">'
                f'<span style="position:relative;display:block;height:1.2em">{bar}{line}</span></td>'
            )
            number = escape(cell(key, self.found[name]))
            rows.append(f'<tr><th scope="row"{_CELL}>{escape(name)}</th><td{_CELL}>{number}</td>{drawn}</tr>')
        caption = f'<caption style="text-align:left"><b>{escape(ROWS[key])}</b></caption>'
        return f"<table>{caption}<tbody>{''.join(rows)}</tbody></table>"


def compare(plans: Mapping[str, Any]) -> Comparison:
    """Several plans side by side.

    Args:
        plans: name -> a plan as `as_plan` takes it (a mapping of a plan's keys, or a `Plan`), with `search`
            or without.

    Returns:
        The comparison.

    Raises:
        ValueError: no plan is given; else from `as_plan`, which names the key that is wrong.

    Example:
        >>> a = {"model": "gpt2", "gpu": "A100", "gpus": 8, "tokens": "10B", "batch": 64}
        >>> print(capacity.compare({"A100": a, "H100": a | {"gpu": "H100"}}))  # doctest: +SKIP
    """
    if not plans:
        raise ValueError("there is nothing to compare: give plans by name")
    known = {str(name): as_plan(plan) for name, plan in plans.items()}
    return Comparison({name: searched(p) if p.search else answer(p) for name, p in known.items()})


def _ends(value: Any) -> tuple[float, float, float]:
    if isinstance(value, Interval):
        return value.low, value.mid, value.high
    return float(value), float(value), float(value)
