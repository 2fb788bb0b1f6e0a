"""Answers to "how much?": the numbers under the names of `--json`, and how a person would derive them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from mlsys_lab._core.hardware import Device
from mlsys_lab._core.quantity import parse, show
from mlsys_lab.capacity.collectives import COLLECTIVES, collective_s, volume_bytes, way_bytes_per_s
from mlsys_lab.capacity.flops import operations, total
from mlsys_lab.capacity.interval import Interval
from mlsys_lab.capacity.memory_steps import memory_steps
from mlsys_lab.capacity.models import Counts, ModelSpec
from mlsys_lab.capacity.op_time import STREAMING, link_efficiency
from mlsys_lab.capacity.parallel import RECOMPUTE, Parallel, Workload
from mlsys_lab.capacity.serving_plan import ServingPlan
from mlsys_lab.capacity.training import training_memory

#: In which unit a key is told.
UNITS = {
    "bytes_per_token": "B", "bytes": "B", "flops": "FLOP", "peak_bytes": "B", "time_s": "s", "step_s": "s",
    "published_time_s": "s", "cost_usd": "USD", "usd_per_hour": "USD", "over_bytes": "B", "ttft_s": "s",
    "tpot_s": "s", "throughput_tokens_per_s": "token/s",
    "latency_s": "s", "power_w": "W", "energy_j": "J", "memory_bytes": "B",
    **{f"{name}_bytes": "B" for name in COLLECTIVES}, **{f"{name}_s": "s" for name in COLLECTIVES},
}  # fmt: skip
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq,
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a command of `estimate` found.

    Attributes:
        values: by key of `--json`; numbers, intervals, or tables of numbers.
        steps: of the derivation: what, the formula with the numbers in it, the source.
    """

    values: dict[str, Any]
    steps: list[tuple[str, str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The values; an interval becomes low, mid, high and basis."""
        return {k: v.to_json() if isinstance(v, Interval) else v for k, v in self.values.items()}

    def lines(self) -> list[str]:
        """A line per value, and per row of a table."""
        said = []
        for key, value in self.values.items():
            if isinstance(value, dict):
                said += [f"  {name:24} {told(key_of(key), v)}" for name, v in value.items()]
            else:
                said.append(f"{key:20} {told(key, value)}")
        return said

    def derivation(self) -> list[str]:
        """How the numbers come about, a block per step."""
        return [f"{what}\n    {formula}\n    {source}" for what, formula, source in self.steps]

    def _repr_html_(self) -> str:
        from mlsys_lab.capacity.answer_html import as_html  # here: it tells numbers as this file does

        return as_html(self)

    def fails(self, condition: str) -> bool:
        """Does `peak_bytes > 80GB` hold? Of an interval, its middle counts.

        Raises:
            ValueError: no such key or comparison; the message names the keys.
        """
        found = re.fullmatch(r"\s*(\w+)\s*(>=|<=|==|>|<)\s*(.+?)\s*", condition)
        numbers = {k: v for k, v in self.values.items() if isinstance(v, int | float | Interval)}
        if found is None or found[1] not in numbers:
            raise ValueError(
                f"--fail-if {condition!r}: write KEY > VALUE, as in 'peak_bytes > 80GB'; here KEY is one of "
                f"{', '.join(numbers)}"
            )
        key, compare, text = found.groups()
        unit = UNITS.get(key, "")
        bare = re.fullmatch(r"[\d.eE+_-]+", text) is not None
        value = numbers[key]
        return _COMPARE[compare](
            value.mid if isinstance(value, Interval) else value,
            float(text) if bare else parse(text, unit).value,
        )


def key_of(table: str) -> str:
    """What the numbers of a table are."""
    return {"parts": "bytes", "parameters_by_part": ""}.get(table, "")


def told(key: str, value: Any) -> str:
    """A number with its unit; an interval as its ends and middle, with what it stands on."""
    unit = UNITS.get(key, "")
    if isinstance(value, Interval):
        if value.is_exact:
            return told(key, value.mid)
        low, mid, high = (show(v, unit) if unit else f"{v:.3g}" for v in (value.low, value.mid, value.high))
        return f"{low} to {high}, middle {mid} ({value.basis})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and not unit:
        return f"{value:,}"
    return show(value, unit) if unit else f"{value:,.4g}" if isinstance(value, float) else str(value)


def parameters(m: Counts) -> Answer:
    """Parameters of a model, by part."""
    parts = m.parts
    values = {
        "parameters": m.parameters,
        "active_parameters": m.active_parameters,
        "parameters_by_part": parts,
    }
    steps = []
    for part, count in parts.items():
        listed = [f"{w.copies} x {w.name} {' x '.join(map(str, w.shape))}" for w in m.weights
                  if w.part == part and w.stored]  # fmt: skip
        steps.append((part, f"{' + '.join(listed)} = {count:,}", f"{m.name}: its config"))
    return Answer(values, [*steps, ("parameters", f"{' + '.join(f'{c:,}' for c in parts.values())}"
                                    f" = {m.parameters:,}", "shared weights count once")])  # fmt: skip


def kv_cache(m: ModelSpec, context: int, batch: int, dtype_bytes: float, dtype: str) -> Answer:
    """Bytes of the cache of keys and values."""
    each = m.kv_bytes_per_token(dtype_bytes)
    whole = m.kv_bytes(context, batch, dtype_bytes)
    formula = f"2 x {m.layers} layers x {m.kv_heads} heads x {m.head_dim} x {dtype_bytes:g} bytes = {each:,}"
    if m.mla is not None:
        formula = f"{m.layers} layers x (rank + rotary part) x {dtype_bytes:g} bytes = {each:,}"
    return Answer(
        {"bytes_per_token": each, "bytes": whole},
        [
            ("bytes_per_token", formula, f"a key and a value per head, in {dtype}"),
            (
                "bytes",
                f"{each:,} x {context:,} tokens x {batch:,} sequences = {whole:,}",
                "for all sequences",
            ),
        ],
    )


def flops(m: Counts, batch: int, context: int, train: bool) -> Answer:
    """FLOPs of a forward pass, or of a training step."""
    forward, backward = total(operations(m, batch, context))
    whole = forward + backward if train else forward
    steps = [("forward", f"two per multiply-add of every product = {forward:,}", "weights' and attention's")]
    if train:
        steps.append(("backward", f"two products per product, five of attention's = {backward:,}",
                      "fused attention computes the scores again"))  # fmt: skip
    return Answer({"flops": whole}, steps)


def memory(m: ModelSpec, w: Workload, p: Parallel) -> Answer:
    """What one GPU holds at the worst moment of a training step."""
    found = training_memory(m, w, p)
    steps = memory_steps(m, w, p) + [
        (phase, f"{' + '.join(f'{name} {size:,.0f}' for name, size in parts.items())} = "
         f"{sum(parts.values()):,.0f}", "largest phase counts" if phase == found.peak_phase else "")
        for phase, parts in found.phases.items()
    ]  # fmt: skip
    return Answer({"peak_bytes": found.peak_bytes, "parts": found.parts}, steps)


def remedies(m: ModelSpec, w: Workload, p: Parallel, has: float) -> str:
    """Which of the usual remedies would make a plan fit, the cheapest first, each by itself."""
    tried: list[tuple[str, Workload, Parallel]] = []
    if p.dp > 1:
        tried += [(f"--zero {stage}", w, replace(p, zero=stage)) for stage in range(p.zero + 1, 4)]
    halves = [w.micro_batch >> n for n in range(1, w.micro_batch.bit_length())]
    tried += [(f"--micro-batch {n}", replace(w, micro_batch=n), p) for n in halves if w.micro_batch % n == 0][
        :2
    ]
    if w.optimizer in ("adam", "adamw"):
        tried.append(("--optimizer adamw8bit", replace(w, optimizer="adamw8bit"), p))
    tried += [
        (f"--recompute {kind}", w, replace(p, recompute=kind))
        for kind in RECOMPUTE[RECOMPUTE.index(p.recompute) + 1 :]
    ]
    tried += [(f"--tp {p.tp * n}", w, replace(p, tp=p.tp * n)) for n in (2, 4, 8)]
    tried += [(f"--pp {p.pp * n}", w, replace(p, pp=p.pp * n)) for n in (2, 4, 8)]
    fitting = []
    for name, work, layout in tried:
        try:
            if training_memory(m, work, layout).peak_bytes <= has:
                fitting.append(name)
        except ValueError:  # it does not divide
            continue
    if not fitting:
        return (
            "None of the usual remedies is enough by itself: combine --tp, --pp, --zero 3, --recompute full"
        )
    return f"Enough by itself, the cheapest first: {', '.join(fitting)}"


def serving(plan: ServingPlan) -> Answer:
    """GPUs for a load, and what it sees on them."""
    s, load, batch, largest = (
        plan.serving,
        plan.load,
        plan.batch,
        plan.serving.largest_batch(plan.load.tokens),
    )
    m, each, room = s.model, s.kv_bytes(1), s.room_bytes
    first, step, busy = s.prefill_s(load.prompt), plan.step_s, plan.prefill_share
    read, cache = s.read_bytes(batch), batch * s.kv_bytes(load.context)
    values: dict[str, Any] = {
        "gpus": plan.gpus, "tp": s.tp, "replicas": plan.replicas, "batch": batch, "largest_batch": largest,
        "ttft_s": plan.ttft_s, "tpot_s": plan.tpot_s,
        "throughput_tokens_per_s": plan.throughput_tokens_per_s, "parts": plan.parts,
    }  # fmt: skip
    speed = f"{s.peak:.4g} FLOP/s x {told('', s.efficiency)}"
    kept = f"{s.on.memory_bytes:,.0f} - {s.reserve:,} - {s.weight_bytes:,}"
    return Answer(values, [
        ("weights of a GPU", f"{m.parameters:,} parameters in {s.dtype} on {s.tp} GPUs = "
         f"{s.weight_bytes:,} bytes each", f"{m.name}: its config"),
        ("largest_batch", f"({kept}) / ({each:,} bytes x {load.tokens:,} tokens) = {room:,} / "
         f"{s.kv_bytes(load.tokens):,}, rounded down = {largest:,}",
         f"{s.on.name}: {s.on.source}; a tenth in reserve, as serving engines keep"),
        ("prefill", f"{s.prefill_flops(load.prompt):,} FLOPs / {s.tp} / ({speed}) + all-reduces = "
         f"{told('ttft_s', first)}", "; ".join(first.rows)),
        ("decode step", f"({read:,.0f} of weights + {cache:,} of cache) / ("
         f"{s.on.memory_bytes_per_s:.4g} B/s x {told('', STREAMING)}) + all-reduces = "
         f"{told('tpot_s', step)}; products alone would take {s.decode_flops(batch, load.context):,} FLOPs / "
         f"{s.tp} / ({speed}), the larger counts", "; ".join(step.rows)),
        ("tpot_s", f"step / (1 - {load.rate:g} / {plan.replicas} x prefill) = step / (1 - {busy.mid:.3g})",
         "prefills take their part of the time"),
        ("batch", f"{load.rate:g} / {plan.replicas} requests/s x {load.output - 1} tokens x "
         f"{told('tpot_s', Interval.exact(plan.tpot_s.mid))}, rounded up = {batch}", "Little 1961"),
        ("ttft_s", f"prefill x (1 + {busy.mid:.3g} / (1 - {busy.mid:.3g}) / 2) + the step under way",
         "mean wait of Pollaczek and Khinchine, fixed service"),
        ("throughput_tokens_per_s", f"{plan.replicas} x {batch} / tpot_s", "the most at this batch"),
        ("gpus", f"tp {s.tp} x {plan.replicas} replicas = {plan.gpus}", "the fewest that keep both"),
    ])  # fmt: skip


def network(size: float, ranks: int, on: Device) -> Answer:
    """What each rank sends in a collective, and how long it takes."""
    values: dict[str, Any] = {}
    steps: list[tuple[str, str, str]] = []
    for name, times in COLLECTIVES.items():
        sent, took = volume_bytes(name, size, ranks), collective_s(name, size, ranks, on)
        values |= {f"{name}_bytes": sent, f"{name}_s": took}
        share = f"{times} x " if times > 1 else ""
        steps += [
            (f"{name}_bytes", f"{share}({ranks} - 1) / {ranks} x {size:,.0f} = {sent:,.0f}", "of each rank"),
            (f"{name}_s", f"{sent:,.0f} / ({way_bytes_per_s(on, ranks):.4g} B/s x "
             f"{told('', link_efficiency())}) = {told(f'{name}_s', took)}",
             "; ".join((f"{on.name}: {on.source}", *took.rows))),
        ]  # fmt: skip
    return Answer(values, steps)
