"""The cheapest plan that fits, or the fastest within a budget, over layouts, GPU types and counts.

Every layout of the space is looked at. Two bounds spare work and change no answer: weights and optimiser
live in every phase, so a layout whose states alone are too large never fits; and a layout that is too large
on one pipeline stage does not fit, whatever the others need.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from mlsys_lab._core.hardware import Device
from mlsys_lab.capacity.held import held, model_state_bytes
from mlsys_lab.capacity.inference import NODE
from mlsys_lab.capacity.models import ModelSpec
from mlsys_lab.capacity.parallel import RECOMPUTE, Parallel, Workload, check
from mlsys_lab.capacity.phases import phases
from mlsys_lab.capacity.plan_file import Plan
from mlsys_lab.capacity.plans import Run, run_of
from mlsys_lab.capacity.training import training_memory

BEST = 5  # that are told


@dataclass(frozen=True)
class Layout:
    """One point of the space: on which GPU, split how, working on what."""

    on: Device
    parallel: Parallel
    work: Workload

    @property
    def plainness(self) -> tuple[Any, ...]:
        """Of equally cheap layouts the one with the least machinery comes first."""
        p = self.parallel
        return (
            p.gpus,
            p.pp,
            p.tp,
            p.zero,
            RECOMPUTE.index(p.recompute),
            -self.work.micro_batch,
            self.on.name,
        )


@dataclass(frozen=True)
class Priced:
    """A layout with the run that it makes."""

    layout: Layout
    run: Run

    @property
    def cost(self) -> float:
        return self.run.cost.mid if self.run.cost is not None else float("inf")

    def better(self, by: str) -> tuple[Any, ...]:
        """What the search sorts by: rounded, as sums in another order differ in their last digits."""
        cost, time = _rounded(self.cost), _rounded(self.run.time_s.mid)
        return (*((cost, time) if by == "cost" else (time, cost)), *self.layout.plainness)


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        looked_at: layouts that divide; fitting: whose memory suffices; kept: within budget and deadline too.
        best: up to five, the best first; empty where none will do.
        nearest: where none fits, the layout that needs least, and its bytes.
        nearest_run: where some fit and none keeps budget and deadline, the one that misses by least.
    """

    plan: Plan
    looked_at: int
    fitting: int
    kept: int
    best: tuple[Priced, ...]
    nearest: tuple[Layout, float] | None = None
    nearest_run: Priced | None = None

    @property
    def next_costs(self) -> float | None:
        """The second best over the best, in what was searched for; None without a second."""
        if len(self.best) < 2:
            return None
        one, two = self.best[:2]
        if self.plan.search == "time":
            return two.run.time_s.mid / one.run.time_s.mid
        return two.cost / one.cost


def space(plan: Plan) -> Iterator[Layout]:
    """Every layout that divides: what the plan says is held, what it lists is chosen from, the rest is free.

    Free are tp up to a node, pp, zero, recompute, and micro-batches by powers of two up to what a replica
    gets; sequence parallelism goes with tp where the context divides; dp takes the GPUs that are left.
    """
    m, given, work = plan.model, plan.layout, dict(plan.work)
    micros = _choices(work.pop("micro_batch", None))
    base = Workload(**{"context": min(m.context or 2048, 2048)} | work)
    tps = _choices(given.get("tp")) or _divisors(m.heads, NODE)
    pps = _choices(given.get("pp")) or _divisors(m.layers // given.get("interleave", 1), m.layers)
    zeros, again = _choices(given.get("zero")) or [0, 1, 2, 3], _choices(given.get("recompute")) or RECOMPUTE
    counts = plan.counts or _counts_of(plan)
    for on, gpus, tp, pp in product(plan.gpus_named, counts, tps, pps):
        inner = tp * pp * given.get("cp", 1)
        dps = [n for n in _choices(given.get("dp")) or [gpus // inner] if n * inner == gpus]
        for dp, recompute in product(dps, again):
            each = base.batch // dp if base.batch % dp == 0 else 0
            for micro in micros or _powers(each):
                for zero in zeros if dp * given.get("cp", 1) > 1 or "zero" in given else [0]:
                    made = _layout(plan, base, on, micro, dp=dp, tp=tp, pp=pp, zero=zero, recompute=recompute)
                    if made is not None:
                        yield made


def _layout(plan: Plan, base: Workload, on: Device, micro: int, **degrees: Any) -> Layout | None:
    """A point of the space, None where it does not divide."""
    given = plan.layout
    kept = {k: given[k] for k in ("interleave", "cp", "ep") if k in given}
    split = degrees["tp"] * given.get("cp", 1)
    sp = given.get("sp", base.context % split == 0) and degrees["tp"] > 1
    if kept.get("interleave", 1) > 1 and degrees["pp"] == 1:
        kept["interleave"] = 1
    try:
        parallel, work = Parallel(**degrees, **kept, sp=sp), replace(base, micro_batch=micro)
        check(plan.model, work, parallel)
    except ValueError:
        return None
    return Layout(on, parallel, work)


def search(plan: Plan) -> Search:
    """Look at the whole space.

    Raises:
        ValueError: no layout divides, or no price is known for a GPU where cost matters.
    """
    memory = Fits(plan.model, max(on.memory_bytes for on in plan.gpus_named))
    layouts = list(space(plan))
    if not layouts:
        raise ValueError(f"{plan.where}: {_why_none(plan)}")
    for on in plan.gpus_named:
        if not on.memory_bytes:
            raise ValueError(f"{plan.where}: no memory is written down for {on.name}")
        if not on.usd_per_hour[1] and not plan.usd_per_hour and (plan.search == "cost" or plan.budget_usd):
            raise ValueError(f"{plan.where}: no price is written down for {on.name}: add usd_per_hour")
    priced = [Priced(x, _run(plan, x)) for x in layouts if memory.fits(x)]
    kept = [x for x in priced if _within(plan, x)]
    best = sorted(kept, key=lambda x: x.better(plan.search))[:BEST]
    nearest, nearest_run = None, None
    if not priced:
        nearest = min(((x, memory.peak_bytes(x)) for x in memory.smallest(layouts)),
                      key=lambda found: found[1] / found[0].on.memory_bytes)  # fmt: skip
    elif not kept:
        nearest_run = min(priced, key=lambda x: _excess(plan, x))
    return Search(plan, len(layouts), len(priced), len(kept), tuple(best), nearest, nearest_run)


@dataclass
class Fits:
    """Whether layouts fit, and what they need; what several of them share is found once.

    Attributes:
        most: memory of the largest GPU that is asked about; a layout that needs more is followed no further.
    """

    model: ModelSpec
    most: float
    known: dict[Any, Any] = field(default_factory=dict)

    def fits(self, x: Layout) -> bool:
        """Does the peak stay within the GPU's memory?"""
        p, has = x.parallel, x.on.memory_bytes
        if self.states(x) > has:
            return False
        key = (p, x.work)
        if key not in self.known:
            self.known[key] = 0.0
            for stage in dict.fromkeys((0, p.pp - 1, *range(p.pp))):
                need = max(sum(parts.values()) for parts in phases(self.model, x.work, p, stage).values())
                self.known[key] = max(self.known[key], need)
                if need > self.most:
                    break
        return bool(self.known[key] <= has)

    def states(self, x: Layout) -> float:
        """Weights and optimiser of the first stage: they are there all the time."""
        p, w = x.parallel, x.work
        degrees = (p.tp, p.pp, p.interleave, p.ep)
        if degrees not in self.known:
            self.known[degrees] = held(self.model, p, 0)
        has, shards = self.known[degrees], p.dp * p.cp
        shared = model_state_bytes(has.shared, w, shards, p.zero)
        experts = model_state_bytes(has.experts, w, shards // p.ep, p.zero)
        return sum(part[k] for part in (shared, experts) for k in ("weights", "optimizer"))

    def peak_bytes(self, x: Layout) -> float:
        return training_memory(self.model, x.work, x.parallel).peak_bytes

    def smallest(self, layouts: list[Layout]) -> list[Layout]:
        """Those that can need least for their memory: the best peak bounds who else is worth a look."""
        order = sorted(layouts, key=lambda x: self.states(x) / x.on.memory_bytes)
        best, found = float("inf"), []
        for x in order:
            if self.states(x) / x.on.memory_bytes >= best:
                break
            share = self.peak_bytes(x) / x.on.memory_bytes
            if share < best:
                best = share
                found.append(x)
        return found


def _run(plan: Plan, x: Layout) -> Run:
    return run_of(plan.model, x.work, x.parallel, x.on, plan.tokens, plan.usd_per_hour)


def _within(plan: Plan, x: Priced) -> bool:
    return _excess(plan, x) <= 1


def _excess(plan: Plan, x: Priced) -> float:
    """The larger of cost over budget and time over deadline."""
    over_budget = x.cost / plan.budget_usd if plan.budget_usd else 0.0
    return max(over_budget, x.run.time_s.mid / plan.deadline_s if plan.deadline_s else 0.0)


def _rounded(value: float) -> float:
    return float(f"{value:.9e}")


def _choices(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, tuple) else [value]


def _divisors(number: int, most: int) -> list[int]:
    return [d for d in range(1, min(number, most) + 1) if number % d == 0]


def _powers(most: int) -> list[int]:
    """1, 2, 4, ... that divide `most`."""
    found, n = [], 1
    while most and n <= most and most % n == 0:
        found.append(n)
        n *= 2
    return found


def _counts_of(plan: Plan) -> tuple[int, ...]:
    """Without `gpus:`, what the given degrees multiply to."""
    given: Mapping[str, Any] = plan.layout
    degrees = [given.get(k, 1) for k in ("dp", "tp", "pp", "cp")]
    if any(isinstance(d, tuple) for d in degrees):
        raise ValueError(f"{plan.where}: add gpus, of which tp and pp are chosen")
    count = 1
    for d in degrees:
        count *= d
    return (count,)


def _why_none(plan: Plan) -> str:
    counts = ", ".join(f"{n:,}" for n in plan.counts) or "so many"
    return (
        f"no layout divides: {counts} GPUs, {plan.model.heads} heads, {plan.model.layers} layers and a batch "
        f"of {plan.work['batch']:,} leave none; use another number of GPUs or another batch"
    )
