"""What a search says: the best as an answer, the next ones; or how near it came, and what would help."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from mlsys_lab._core.hardware import DEVICES
from mlsys_lab.capacity.answers import Answer, told
from mlsys_lab.capacity.plan_file import Plan
from mlsys_lab.capacity.plan_search import Layout, Priced, Search, search
from mlsys_lab.capacity.plans import cell, said, trains

MORE = (2, 4, 8)  # times as many GPUs are tried


@dataclass(frozen=True)
class Searched(Answer):
    """The best layout's answer, with the search that found it.

    Attributes:
        found: the search; its plan says by what.
    """

    found: Search | None = None

    def lines(self) -> list[str]:
        """The answer's lines, then the search's."""
        return [*super().lines(), "", *self.search_lines()]

    def search_lines(self) -> list[str]:
        """How many were looked at, and the best five."""
        if self.found is None:
            return []
        f, by = self.found, self.found.plan.search
        limits = _limits(f.plan)
        kept = f", {f.kept:,} of these keep {limits}" if limits else ""
        lines = [f"looked at {f.looked_at:,} layouts: {f.fitting:,} fit{kept}"]
        if f.best:
            lines.append(f"the best of them by {by}:")
            lines += [f"  {i}. {_row(f, x)}" for i, x in enumerate(f.best, 1)]
            more = f.next_costs
            if more is not None:
                verb, same = ("costs", "as much") if by == "cost" else ("takes", "as long")
                lines.append(f"the second {verb} {f'{more - 1:.2%} more' if more > 1.00005 else same}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """The best layout's values, and under `search` the counts and the best five."""
        if self.found is None:
            return super().to_json()
        f = self.found
        best = [
            {
                "gpu": x.layout.on.name, "gpus": x.layout.parallel.gpus,
                "layout": said(x.layout.parallel, x.layout.work), "time_s": x.run.time_s.to_json(),
                "cost_usd": None if x.run.cost is None else x.run.cost.to_json(),
            }
            for x in f.best
        ]  # fmt: skip
        return super().to_json() | {"search": {
            "by": f.plan.search, "looked_at": f.looked_at, "fitting": f.fitting, "kept": f.kept,
            "next_costs": f.next_costs, "best": best,
        }}  # fmt: skip


def searched(plan: Plan) -> Searched:
    """The best layout of a plan; where none will do, the one that comes nearest.

    Raises:
        ValueError: as `search`.
    """
    f = search(plan)
    if f.best:
        layout = f.best[0].layout
    elif f.nearest is not None:
        layout = f.nearest[0]
    else:
        assert f.nearest_run is not None
        layout = f.nearest_run.layout
    found = trains(plan, layout.on, layout.parallel, layout.work)
    return Searched(found.values, found.steps, f)


def failure(f: Search) -> str:
    """Why a search has no best, by how much, and what would help, the cheapest first; empty where it has."""
    if f.best:
        return ""
    name = f.plan.name
    if f.nearest is not None:
        x, need = f.nearest
        over = told("bytes", need - x.on.memory_bytes)
        text = (f"{name}: none of {f.looked_at:,} layouts fits. The nearest, {_said(x)}, needs {over} more "
                f"than {x.on.name} has.")  # fmt: skip
    else:
        assert f.nearest_run is not None
        text = (f"{name}: {f.fitting:,} of {f.looked_at:,} layouts fit and none keeps "
                f"{_limits(f.plan)}. The nearest is {_row(f, f.nearest_run)}.")  # fmt: skip
    helps = remedies(f.plan)
    if not helps:
        return f"{text} None of the usual remedies is enough by itself"
    return f"{text} Enough by itself, the cheapest first: {'; '.join(helps)}"


def remedies(plan: Plan) -> list[str]:
    """What would make the search succeed, each by itself, in the order of what the run then costs."""
    found = []
    for what, changed in _changes(plan):
        try:
            best = search(changed).best
        except ValueError:  # it does not divide, or has no price
            continue
        if best:
            found.append((best[0].cost, what, best[0]))
    known: dict[str, str] = {}
    for cost, what, x in sorted(found, key=lambda f: f[0]):
        kind = what.split(":")[0]
        price = "" if cost == float("inf") else f" ({told('cost_usd', cost)})"
        known.setdefault(kind, f"{what}{price}" if ":" in what else f"{what}: {_said(x.layout)}{price}")
    return list(known.values())


def _changes(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """The usual remedies, each as the plan that it makes."""
    for key in plan.layout:
        if key in ("tp", "pp", "zero", "recompute", "dp"):
            rest = {k: v for k, v in plan.layout.items() if k != key}
            yield f"leave {key} free", replace(plan, layout=rest)
    if "micro_batch" in plan.work:
        rest = {k: v for k, v in plan.work.items() if k != "micro_batch"}
        yield "leave micro_batch free", replace(plan, work=rest)
    if plan.work.get("optimizer", "adamw") in ("adam", "adamw"):
        yield "optimizer adamw8bit", replace(plan, work={**plan.work, "optimizer": "adamw8bit"})
    for times in MORE if plan.counts else ():
        counts = tuple(n * times for n in plan.counts)
        yield f"more GPUs: {times} times", replace(plan, counts=counts)
    most = max(on.memory_bytes for on in plan.gpus_named)
    for name, other in DEVICES.items():
        larger = other.kind == "gpu" and other.memory_bytes > most
        if larger and (other.usd_per_hour[1] or not plan.budget_usd):
            yield f"larger GPUs: {name}", replace(plan, gpus_named=(other,), usd_per_hour=0.0)


def _said(x: Layout) -> str:
    return f"{x.parallel.gpus:,} {x.on.name} {said(x.parallel, x.work)}"


def _row(f: Search, x: Priced) -> str:
    made = Answer({"time_s": x.run.time_s} | ({"cost_usd": x.run.cost} if x.run.cost is not None else {}))
    cost = f", {cell('cost_usd', made)}" if x.run.cost is not None else ""
    return f"{_said(x.layout)}: {cell('time_s', made)}{cost}"


def _limits(plan: Plan) -> str:
    budget = f"the budget of {told('cost_usd', plan.budget_usd)}" if plan.budget_usd else ""
    deadline = f"the deadline of {told('time_s', plan.deadline_s)}" if plan.deadline_s else ""
    return " and ".join(x for x in (budget, deadline) if x)
