"""`mlsys-lab estimate edge`: the limits and candidates as people write them, and the answer in words."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from mlsys_lab._core.quantity import amount
from mlsys_lab.capacity.answers import Answer, told
from mlsys_lab.capacity.edge import Candidate
from mlsys_lab.capacity.interval import Interval
from mlsys_lab.capacity.pareto import MORE_IS_BETTER, Choice, Relaxed, choose, pareto_set

#: Option or column: the key of `--json`, and the unit.
COLUMNS = {
    "accuracy": ("accuracy", ""), "latency": ("latency_s", "s"), "power": ("power_w", "W"),
    "memory": ("memory_bytes", "B"), "cost": ("cost_usd", "USD"),
}  # fmt: skip
_NAMES = {key: name for name, (key, _) in COLUMNS.items()}
MOST = 10_000


@dataclass(frozen=True)
class EdgeAnswer(Answer):
    """An answer whose candidates on the Pareto set are rows of several numbers.

    Attributes:
        rows: of the Pareto set, name to values.
        refused: why no candidate meets the limits; empty where one does.
    """

    rows: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    refused: str = ""

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"pareto": {name: dict(row) for name, row in self.rows.items()}}

    def _repr_html_(self) -> str:
        left = 'scope="row" style="text-align:left"'
        cells = "".join(
            f"<tr><th {left}>{escape(name)}</th><td>{escape(_row(row))}</td></tr>"
            for name, row in self.rows.items()
        )
        table = f"<table><caption>Pareto set: {len(self.rows)}</caption><tbody>{cells}</tbody></table>"
        refused = f"<p>{escape(self.refused)}</p>" if self.refused else ""
        return super()._repr_html_() + refused + table

    def lines(self) -> list[str]:
        said = [_row(row) for row in self.rows.values()]
        wide = max(map(len, self.rows), default=0)
        table = [f"  {name:{wide}} {row}" for name, row in zip(self.rows, said, strict=True)]
        return [*super().lines(), f"Pareto set: {len(table)}", *table]


def share(text: str) -> float:
    """An accuracy as people write it: "95%" or "0.95".

    Raises:
        ValueError: neither, or not between 0 and 100 %.
    """
    plain = text.strip()
    try:
        value = float(plain.removesuffix("%")) / (100 if plain.endswith("%") else 1)
    except ValueError:
        raise ValueError(f"{text!r}: write an accuracy as 95% or 0.95") from None
    if not 0 < value <= 1:
        raise ValueError(f"{text!r}: an accuracy lies above 0 and at most at 100 %; is the % missing?")
    return value


def read_limit(name: str, text: str) -> float:
    """The value of `--accuracy`, `--latency`, ... in SI units.

    Raises:
        ValueError: no number, no unit, another unit; the message names the option.
    """
    unit = COLUMNS[name][1]
    try:
        if name == "accuracy":
            return share(text)
        try:
            float(text)
        except ValueError:
            return amount(text, unit)
        raise ValueError(f"{text!r}: the unit is missing, write for example {_EXAMPLE[name]}")
    except ValueError as error:
        raise ValueError(f"--{name}: {error}") from None


_EXAMPLE = {"latency": "20ms", "power": "5W", "memory": "8MB", "cost": "60USD"}


def read_candidates(path: Path) -> tuple[Candidate, ...]:
    """Candidates of a table: columns name, accuracy, latency, power, cost, and memory where it is known.

    Raises:
        ValueError: no such file, a column is missing, or a cell cannot be read; the message names it.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is not a table in UTF-8"
        raise ValueError(f"--candidates {path} cannot be read: {reason}") from None
    wanted = ["name", "accuracy", "latency", "power", "cost"]
    missing = [c for c in wanted if not rows or c not in rows[0]]
    if missing:
        raise ValueError(
            f"--candidates {path}: a header {','.join(wanted)} and a row are needed, "
            f"{', '.join(missing) if rows else 'every row'} is missing"
        )
    if len(rows) > MOST:
        raise ValueError(f"--candidates {path}: {len(rows)} rows, at most {MOST} are compared")
    return tuple(_candidate(path, number, row) for number, row in enumerate(rows, 2))


def _candidate(path: Path, number: int, row: Mapping[str, str | None]) -> Candidate:
    def cell(column: str) -> float:
        try:
            return read_limit(column, (row[column] or "").strip())
        except ValueError as error:
            where = f"--candidates {path}, line {number}, {column}"
            raise ValueError(f"{where}: {str(error).partition(': ')[2]}") from None

    name = (row["name"] or "").strip()
    if not name:
        raise ValueError(f"--candidates {path}, line {number}: the name is missing")
    memory = cell("memory") if row.get("memory") else 0.0
    return Candidate(
        name, cell("accuracy"), Interval.exact(cell("latency")), Interval.exact(cell("power")),
        memory, cell("cost"), f"{path}, line {number}",
    )  # fmt: skip


def edge(candidates: Sequence[Candidate], limits: Mapping[str, float]) -> EdgeAnswer:
    """The Pareto set, the cheapest candidate within limits, and which limit binds.

    Args:
        candidates: what there is to choose from.
        limits: by key ("latency_s"), in SI units.
    """
    values = [c.values() for c in candidates]
    unpriced = next((c.name for c in candidates if not c.cost_usd), "")
    if unpriced and "cost_usd" in limits:
        raise ValueError(f"--cost: no price is written down for {unpriced}; give one in --candidates")
    # Where a price is not known, the least power is what comes nearest to cheap.
    by = "power_w" if unpriced else "cost_usd"
    found = choose(values, limits, cost=by)
    columns = list(dict.fromkeys(["accuracy", "latency_s", "power_w", by, *limits]))
    front = pareto_set(values, columns)
    rows = {candidates[i].name: values[i] for i in front}
    counted: dict[str, Any] = {"candidates": len(candidates), "feasible": len(found.feasible)}
    steps = _steps(candidates, limits, found)
    names = [candidates[r.nearest].name for r in found.binding]
    if found.cheapest is None:
        nearest = "; ".join(_blame(r, name, limits) for r, name in zip(found.binding, names, strict=True))
        binding = " or ".join(" + ".join(_NAMES[n] for n in r.names) for r in found.binding)
        said = f"no candidate meets {_spelled(limits)}. Binding: {nearest}"
        return EdgeAnswer({**counted, "choice": "", "binding": binding}, steps, rows, said)
    best = candidates[found.cheapest]
    binding = ", ".join(_NAMES[r.names[0]] for r in found.binding)
    counted |= {"choice": best.name, "accuracy": best.accuracy, "latency_s": best.latency_s,
                "power_w": best.power_w, "energy_j": best.energy_j, "memory_bytes": best.memory_bytes,
                "cost_usd": best.cost_usd or "not known", "binding": binding}  # fmt: skip
    return EdgeAnswer(counted, steps, rows)


def _row(row: Mapping[str, float]) -> str:
    return ", ".join(_said(key, value) for key, value in row.items() if value or key == "accuracy")


def _said(key: str, value: float) -> str:
    return f"{100 * value:.4g} %" if key == "accuracy" else told(key, value)


def _spelled(limits: Mapping[str, float]) -> str:
    sign = {True: ">=", False: "<="}
    return ", ".join(f"{_NAMES[k]} {sign[k in MORE_IS_BETTER]} {_said(k, v)}" for k, v in limits.items())


def _blame(relaxed: Relaxed, nearest: str, limits: Mapping[str, float]) -> str:
    by = " and ".join(
        f"{_NAMES[k]} by {100 * abs(value - limits[k]):.3g} points, to {_said(k, value)}"
        if k == "accuracy" else f"{_NAMES[k]} by {told(k, abs(value - limits[k]))}, to {_said(k, value)}"
        for k, value in relaxed.needed.items()
    )  # fmt: skip
    return f"{by} ({nearest})"


def _steps(
    candidates: Sequence[Candidate], limits: Mapping[str, float], found: Choice
) -> list[tuple[str, str, str]]:
    kept = f"{len(found.feasible)} of {len(candidates)} keep {_spelled(limits) or 'no limit'}"
    steps = [("feasible", kept, "of an interval its middle counts, of power the most")]
    if found.cheapest is not None:
        best = candidates[found.cheapest]
        steps += [
            ("choice", f"{best.name}: the cheapest of these", best.source),
            ("latency_s", best.formula or "as given", "; ".join(best.latency_s.rows)),
            ("power_w", told("power_w", best.power_w), "; ".join(best.power_w.rows)),
            ("energy_j", f"{told('power_w', best.power_w)} x {told('latency_s', best.latency_s)}", ""),
        ]
    for r in found.binding:
        names = " and ".join(_NAMES[n] for n in r.names)
        why = "dropped alone" if len(r.names) == 1 else "dropped together; no single one is enough"
        steps.append((f"binding: {names}", f"without it {candidates[r.nearest].name} would do", why))
    return steps
