"""What if? A plan's memory and time over a grid of layouts, to be tried with sliders.

Everything is computed here, cell by cell, by what `estimate plan` uses; the page only looks cells up. Where
scripts do not run the sliders stay hidden, and tables show what each of them alone would change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from mlsys_lab._core.hardware import Device, device
from mlsys_lab.capacity.costs import rent
from mlsys_lab.capacity.inference import NODE
from mlsys_lab.capacity.parallel import RECOMPUTE, Parallel, Workload, check
from mlsys_lab.capacity.plan_file import Plan, as_plan, read_plans
from mlsys_lab.capacity.step_time import step_time
from mlsys_lab.capacity.training import training_memory

#: The sliders, in the order of the grid; the GPU comes last and changes time alone.
AXES = ("micro_batch", "context", "dp", "zero", "tp", "pp", "recompute", "gpu")
MOST = 20_000  # layouts of a grid: some seconds, and a page of a few megabytes
OTHERS = ("A100", "H100", "B200")  # to compare with


@dataclass(frozen=True)
class Cell:
    """A layout.

    Attributes:
        parts: bytes on one GPU at the peak, by what they are for; empty where it does not divide.
        step_s: by GPU the low, mid and high seconds of a step.
        why: why it does not divide.
    """

    parts: Mapping[str, int]
    step_s: Sequence[tuple[float, float, float]] = ()
    why: str = ""

    @property
    def peak_bytes(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Explorer:
    """A grid of layouts around a plan; a notebook shows it with sliders.

    Attributes:
        plan: where it starts.
        axes: the values of each slider.
        start: the plan's own value of each.
        cells: by the values of all sliders but the GPU's.
        gpus: of the last slider.
    """

    plan: Plan
    axes: Mapping[str, Sequence[Any]]
    start: Mapping[str, Any]
    cells: Mapping[tuple[Any, ...], Cell]
    gpus: Sequence[Device]

    def at(self, **changes: Any) -> Cell:
        """The cell with these values, the plan's where none is given.

        Raises:
            ValueError: no such slider or value; the message names those that there are.
        """
        return self.cells[tuple(self.chosen(changes)[name] for name in AXES[:-1])]

    def chosen(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The value of every slider."""
        for name, value in changes.items():
            if name not in AXES:
                raise ValueError(f"no slider is called {name!r}: there are {', '.join(AXES)}")
            if value not in self.axes[name]:
                there = ", ".join(map(str, self.axes[name]))
                raise ValueError(f"{name} {value!r} is not on the grid: it has {there}")
        return {**self.start, **changes}

    def layout(self, **changes: Any) -> tuple[Parallel, Workload]:
        """The layout at these values.

        Raises:
            ValueError: it cannot be.
        """
        return _layout(self.plan, self.chosen(changes))

    @property
    def rents(self) -> list[tuple[float, float, float] | None]:
        """By GPU: dollars per hour between the cheapest and the dearest seller, None where none is known."""
        own = self.plan.usd_per_hour
        if own:
            return [(own, own, own)] * len(self.gpus)
        prices = [rent(on) if on.usd_per_hour[1] else None for on in self.gpus]
        return [None if p is None else (p.low, p.mid, p.high) for p in prices]

    def _repr_html_(self) -> str:
        from mlsys_lab.capacity.explore_html import as_html

        return as_html(self)

    def save(self, path: str | Path) -> None:
        """As a page of its own."""
        from mlsys_lab.capacity.explore_html import as_html
        from mlsys_lab.capacity.roof_figure import page

        page(Path(path), f"What if? {self.plan.model.name}", as_html(self))


def explore(plan: Plan | Mapping[str, Any] | str | Path, **axes: Sequence[Any]) -> Explorer:
    """A what-if explorer around a plan.

    Args:
        plan: that trains: a `Plan`, the mapping of one, or a file with one.
        axes: values of a slider, by its name (micro_batch, context, dp, zero, tp, pp, recompute, gpu); by
            default the plan's own value, half and twice it.

    Raises:
        ValueError: the plan is wrong or serves, no such slider, or a grid of more than 20,000 layouts.

    Example:
        >>> explore({"model": "gpt2", "gpu": "A100", "gpus": 8}, zero=[0, 3]).at(zero=3).peak_bytes
        860830400
    """
    start = _plan(plan)
    if start.load or start.search:
        raise ValueError(
            f"{start.where}: an explorer starts at one layout that trains, without serve or search"
        )
    try:
        p, w = start.parallel, start.workload
        check(start.model, w, p)
    except ValueError as error:
        raise ValueError(f"{start.where}: {error}") from None
    chosen = {**{name: getattr(w, name) for name in AXES[:2]},
              **{name: getattr(p, name) for name in AXES[2:-1]}, "gpu": start.on.name}  # fmt: skip
    values = {name: _values(name, chosen[name], axes.get(name), start) for name in AXES}
    unknown = next((name for name in axes if name not in AXES), None)
    if unknown:
        raise ValueError(f"no slider is called {unknown!r}: there are {', '.join(AXES)}")
    values["gpu"] = [device(str(name)).name for name in values["gpu"]]
    size = 1
    for name in AXES[:-1]:
        size *= len(values[name])
    if size > MOST:
        raise ValueError(f"{size:,} layouts are more than {MOST:,}: give some sliders fewer values")
    gpus = [device(name) for name in values["gpu"]]
    cells = {key: _cell(start, dict(zip(AXES, key, strict=False)), gpus)
             for key in product(*(values[name] for name in AXES[:-1]))}  # fmt: skip
    return Explorer(start, values, chosen, cells, gpus)


def _plan(plan: Plan | Mapping[str, Any] | str | Path) -> Plan:
    if isinstance(plan, Plan):
        return plan
    if isinstance(plan, Mapping):
        return as_plan(dict(plan))
    found = read_plans(plan)
    if len(found) > 1:
        raise ValueError(f"{plan} holds {len(found)} plans: give one, such as read_plans({str(plan)!r})[0]")
    return found[0]


def _values(name: str, own: Any, given: Sequence[Any] | None, plan: Plan) -> list[Any]:
    """A slider's values in order, the plan's own among them."""
    found = list(given) if given is not None else list(_usual(name, own, plan))
    if not found:
        raise ValueError(f"{name}: a slider wants at least one value")
    found = list(dict.fromkeys([*found, own]))
    if name == "recompute":
        return sorted(found, key=lambda kind: RECOMPUTE.index(kind) if kind in RECOMPUTE else 9)
    return found if name == "gpu" else sorted(found)


def _usual(name: str, own: Any, plan: Plan) -> Iterator[Any]:
    """Half, as much and twice; all of what there are few of."""
    if name == "gpu":
        yield from dict.fromkeys((own, *OTHERS))
    elif name == "zero":
        yield from range(4)
    elif name == "recompute":
        yield from RECOMPUTE
    else:
        m = plan.model
        for value in (own // 2, own, own * 2) if own > 1 else (1, 2, 4):
            fits = {"tp": m.heads % max(value, 1) == 0 and value <= NODE, "pp": m.layers % max(value, 1) == 0,
                    "context": not m.positions or value <= m.positions}.get(name, True)  # fmt: skip
            if value >= 1 and fits:
                yield value


def _layout(plan: Plan, at: Mapping[str, Any]) -> tuple[Parallel, Workload]:
    p = plan.parallel
    sp = p.sp if p.tp > 1 else bool(plan.layout.get("sp"))
    layout = replace(
        p, dp=at["dp"], zero=at["zero"], tp=at["tp"], pp=at["pp"], recompute=at["recompute"],
        sp=sp and at["tp"] > 1, interleave=p.interleave if at["pp"] > 1 else 1,
    )  # fmt: skip
    return layout, replace(plan.workload, micro_batch=at["micro_batch"], context=at["context"])


def _cell(plan: Plan, at: Mapping[str, Any], gpus: Sequence[Device]) -> Cell:
    try:
        p, w = _layout(plan, at)
        parts = training_memory(plan.model, w, p).parts
    except ValueError as error:
        return Cell({}, why=str(error))
    took = [step_time(plan.model, w, p, on).time_s for on in gpus]
    return Cell({k: round(v) for k, v in parts.items()}, [(t.low, t.mid, t.high) for t in took])
