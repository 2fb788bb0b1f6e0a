"""What plans need: each by itself under the keys of `train` and `serve`, and several side by side.

Time, cost and energy of a plan that trains are those of its own layout: steps of the run times the estimated
step. What published runs on such GPUs took stands beside it; restarts and waiting are in that alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlsys_lab._core.hardware import Device
from mlsys_lab._core.quantity import show
from mlsys_lab.capacity.answers import UNITS, Answer, memory, serving, told
from mlsys_lab.capacity.costs import cost_usd, energy_kwh, rent
from mlsys_lab.capacity.inference import NODE
from mlsys_lab.capacity.interval import Interval
from mlsys_lab.capacity.models import ModelSpec
from mlsys_lab.capacity.parallel import RECOMPUTE, Parallel, Workload
from mlsys_lab.capacity.plan_file import Plan
from mlsys_lab.capacity.serving_plan import NoPlan, fewest_gpus
from mlsys_lab.capacity.step_time import StepTime, step_time
from mlsys_lab.capacity.train_run import training_run
from mlsys_lab.capacity.training import training_memory

#: Rows of the table of several plans, and what they are called.
ROWS = {
    "gpus": "GPUs", "layout": "layout", "fits": "fits", "peak_bytes": "peak bytes/GPU", "step_s": "step",
    "time_s": "time", "cost_usd": "cost", "energy_kwh": "energy", "ttft_s": "first token",
    "tpot_s": "per token", "usd_per_hour": "cost per hour",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """Time and money of one layout.

    Attributes:
        step: one optimiser step; steps: of the run, 0 without tokens.
        hours: of all GPUs together.
        cost: None where no price is known.
    """

    step: StepTime
    steps: float
    time_s: Interval
    hours: Interval
    cost: Interval | None


def run_of(
    m: ModelSpec, w: Workload, p: Parallel, on: Device, tokens: float, usd_per_hour: float = 0.0
) -> Run:
    """A run of `tokens` in this layout, without restarts."""
    step = step_time(m, w, p, on)
    steps = tokens / (w.global_batch(p) * w.context)
    time = step.time_s * steps
    hours = time * (p.gpus / 3600)
    price: Interval | float | None = usd_per_hour or (rent(on) if on.usd_per_hour[1] else None)
    return Run(step, steps, time, hours, None if price is None else cost_usd(hours, price))


def said(p: Parallel, w: Workload) -> str:
    """A layout in a few words: `dp 16 tp 8 sp pp 8 zero 1 micro-batch 1`."""
    words = [f"{name} {getattr(p, name)}" for name in ("dp", "tp", "pp", "interleave", "cp", "ep")
             if getattr(p, name) > 1]  # fmt: skip
    words += [f"zero {p.zero}"] if p.dp * p.cp > 1 else []
    words += ["sp"] if p.sp else []
    words += [f"recompute {p.recompute}"] if p.recompute != "none" else []
    return " ".join([*words, f"micro-batch {w.micro_batch}"])


def answer(plan: Plan) -> Answer:
    """What a plan that is not searched needs.

    Raises:
        ValueError: the layout does not divide; the message begins with the plan's place.
    """
    try:
        return _serves(plan) if plan.load else trains(plan, plan.on, plan.parallel, plan.workload)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{plan.where}: {error}") from None


def trains(plan: Plan, on: Device, p: Parallel, w: Workload) -> Answer:
    """What a plan needs on this GPU in this layout."""
    m = plan.model
    held, found = memory(m, w, p), run_of(m, w, p, on, plan.tokens, plan.usd_per_hour)
    over = held.values["peak_bytes"] - on.memory_bytes
    values: dict[str, Any] = {"gpu": on.name, "gpus": p.gpus, "layout": said(p, w), "fits": over <= 0}
    values |= {"over_bytes": over} if over > 0 else {}
    values |= {**held.values, "step_s": found.step.time_s, "mfu": found.step.mfu}
    parts = " + ".join(f"{name} {told('step_s', Interval.exact(part.mid))}"
                       for name, part in found.step.parts.items() if part.mid)  # fmt: skip
    steps = [*held.steps, ("step_s", f"{parts} = {told('step_s', found.step.time_s)}",
                           "; ".join(found.step.time_s.rows))]  # fmt: skip
    if plan.tokens and found.steps < 1:
        tokens = w.global_batch(p) * w.context
        raise ValueError(
            f"{plan.tokens:,.0f} tokens are less than one step, which takes {tokens:,}: give more"
        )
    if plan.tokens:
        published = training_run(m, plan.tokens, on, p.gpus)
        values |= {"time_s": found.time_s, "gpu_hours": found.hours}
        steps += [
            ("time_s", f"{plan.tokens:,.4g} tokens / ({w.global_batch(p):,} sequences x {w.context:,} tokens)"
             f" = {found.steps:,.0f} steps x step_s", "the layout's own step; no restarts, no waiting"),
            ("gpu_hours", f"time_s x {p.gpus:,} GPUs / 3600", ""),
        ]  # fmt: skip
        if found.cost is not None:
            values["cost_usd"] = found.cost
            source = "the plan's usd_per_hour" if plan.usd_per_hour else on.price_source
            steps.append(("cost_usd", "GPU-hours x the rent of one", source))
        if on.watts:
            values["energy_kwh"] = energy_kwh(found.hours, on.watts)
            steps.append(("energy_kwh", f"GPU-hours x {on.watts:g} W / 1000", on.source))
        values["published_time_s"] = published.time_s
        steps.append(("published_time_s", f"6 x {m.active_parameters:,} x {plan.tokens:.4g} / "
                      f"({on.half_peak():.4g} x MFU) / {p.gpus}", "MFU of published runs, all that stopped "
                      "them included"))  # fmt: skip
    return Answer(values, steps)


def _serves(plan: Plan) -> Answer:
    if plan.load is None:  # never: `answer` asks
        raise ValueError("it has no serve:")
    try:
        found = fewest_gpus(plan.model, plan.on, plan.load, **plan.serving)
    except NoPlan as error:
        return Answer({"gpu": plan.on.name, "fits": False, "why": str(error)})
    made = serving(found)
    tp = f"tp {found.serving.tp} " if found.serving.tp > 1 else ""
    layout = f"{tp}replicas {found.replicas} batch {found.batch}"
    held = {"peak_bytes": sum(found.parts.values()) - found.parts["free"]}
    values = {"gpu": plan.on.name, "layout": layout, "fits": True, **held, **made.values}
    steps = list(made.steps)
    price: Interval | float = plan.usd_per_hour or (rent(plan.on) if plan.on.usd_per_hour[1] else 0.0)
    if price:
        values["usd_per_hour"] = cost_usd(float(found.gpus), price)
        source = "the plan's usd_per_hour" if plan.usd_per_hour else plan.on.price_source
        steps.append(("usd_per_hour", f"{found.gpus} GPUs x the rent of one", source))
    return Answer(values, steps)


def refusal(plan: Plan, found: Answer) -> str:
    """Why a plan does not fit, and what would help; empty where it does."""
    if found.values["fits"]:
        return ""
    if plan.load:
        return f"{plan.name}: {found.values['why']}"
    over = told("bytes", found.values["over_bytes"])
    helps = remedies(plan)
    text = f"{plan.name} does not fit: {over} more than {plan.on.name} has."
    if not helps:
        return f"{text} None of the usual remedies is enough by itself: combine them, or add 'search: cost'"
    return f"{text} Enough by itself, the cheapest first: {', '.join(helps)}"


def remedies(plan: Plan) -> list[str]:
    """Which of the usual remedies would make a plan fit on as many GPUs, by what the run then costs."""
    w, p, m, on = plan.workload, plan.parallel, plan.model, plan.on
    tried: list[tuple[str, Workload, Parallel]] = []
    if p.dp * p.cp > 1:
        tried += [(f"zero: {stage}", w, replace(p, zero=stage)) for stage in range(p.zero + 1, 4)]
    if w.micro_batch > 1:
        tried.append(("micro_batch: 1", replace(w, micro_batch=1), p))
    tried += [(f"recompute: {kind}", w, replace(p, recompute=kind))
              for kind in RECOMPUTE[RECOMPUTE.index(p.recompute) + 1 :]]  # fmt: skip
    for times in (2, 4, 8):
        if p.dp % (times * p.ep) == 0:
            if p.tp * times <= NODE:
                tried.append((f"tp: {p.tp * times}", w, replace(p, tp=p.tp * times, dp=p.dp // times)))
            tried.append((f"pp: {p.pp * times}", w, replace(p, pp=p.pp * times, dp=p.dp // times)))
    if w.optimizer in ("adam", "adamw"):
        tried.append(("optimizer: adamw8bit", replace(w, optimizer="adamw8bit"), p))
    fitting = []
    for name, work, layout in tried:
        try:
            if training_memory(m, work, layout).peak_bytes <= on.memory_bytes:
                fitting.append((run_of(m, work, layout, on, plan.tokens or 1e9).hours.mid, name))
        except ValueError:  # it does not divide
            continue
    return [name for _, name in sorted(fitting, key=lambda f: f[0])]


def cell(key: str, found: Answer) -> str:
    """A value in a table: the middle, and the ends of an interval in brackets."""
    value = found.values.get(key)
    if value is None:
        return "-"
    if key == "gpus":
        return f"{value:,} {found.values.get('gpu', '')}".strip()
    if key == "fits":
        if value:
            return "yes"
        over = found.values.get("over_bytes")
        return "no" if over is None else f"no, {told('bytes', over)} over"
    if isinstance(value, Interval) and not value.is_exact:
        unit = {"energy_kwh": "kWh"}.get(key) or UNITS.get(key, "")
        low, mid, high = (_short(v, unit) for v in (value.low, value.mid, value.high))
        return f"{mid} ({low} to {high})"
    return told(key, value)


def _short(value: float, unit: str) -> str:
    if unit == "kWh":
        return show(value * 1000, "Wh", digits=3)
    if unit == "USD" and value >= 1e5:
        return f"{value / 1e6:.3g}M USD"
    return show(value, unit, digits=3) if unit else f"{value:.3g}"


def side_by_side(found: Mapping[str, Answer]) -> list[str]:
    """A table with a column per plan, then what its intervals stand on."""
    rows = [["", *found]]
    for key, title in ROWS.items():
        if any(key in a.values for a in found.values()):
            rows.append([title, *(cell(key, a) for a in found.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(n) for c, n in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, *bases(found)]


def bases(found: Mapping[str, Answer]) -> list[str]:
    """By basis, which rows of a table stand on it."""
    listed: dict[str, dict[str, None]] = {}
    for a in found.values():
        for key, title in ROWS.items():
            value = a.values.get(key)
            if isinstance(value, Interval) and not value.is_exact:
                listed.setdefault(value.basis, {})[title] = None
    return [f"{basis}: {', '.join(titles)}" for basis, titles in listed.items()]
