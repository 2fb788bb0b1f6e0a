"""How many GPUs a load takes: the fewest tp x replicas that keep the promised latencies.

The GPUs of a replica divide their time between prefills and decode steps, so prefills stretch every step.
Requests arrive at random (Poisson), are spread evenly over the replicas, and wait for the prefills before
them as in a queue with one server and fixed service (Pollaczek 1930, Khinchine 1932). In decoding are as many
sequences as Little's law says (Little 1961): arrivals per second times seconds in decoding.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlsys_lab._core.hardware import Device
from mlsys_lab._core.quantity import show
from mlsys_lab.capacity.inference import NODE, Serving
from mlsys_lab.capacity.interval import Interval
from mlsys_lab.capacity.models import ModelSpec
from mlsys_lab.capacity.parallel import Parallel, Workload, check

#: More replicas than this are not tried: then the limit is one that replicas do not help.
MOST_REPLICAS = 1 << 20


class NoPlan(Exception):
    """No number of GPUs will do; the message names the constraint that binds, and by how much."""


@dataclass(frozen=True)
class Load:
    """What is asked, and what is promised.

    Attributes:
        rate: requests per second over all replicas.
        prompt, output: tokens of a request, and of its answer.
        ttft: seconds to the first token, at most.
        tpot: seconds per further token, at most.
    """

    rate: float
    prompt: int
    output: int
    ttft: float
    tpot: float

    def __post_init__(self) -> None:
        for name, value in (("rate", self.rate), ("ttft", self.ttft), ("tpot", self.tpot)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} has to be above 0, got {value:g}")
        for name, count in (("prompt", self.prompt), ("output", self.output)):
            if count < 1:
                raise ValueError(f"{name} has to be at least 1 token, got {count}")

    @property
    def tokens(self) -> int:
        """Of a sequence at its end, for which the cache needs room."""
        return self.prompt + self.output

    @property
    def context(self) -> int:
        """Tokens in the cache halfway through an answer."""
        return self.prompt + (self.output + 1) // 2


@dataclass(frozen=True)
class ServingPlan:
    """Replicas and the batch at which they work.

    Attributes:
        serving: one replica; replicas: how many.
        load: what they carry.
        batch: sequences in decoding on each replica, rounded up.
    """

    serving: Serving
    replicas: int
    load: Load
    batch: int

    @property
    def gpus(self) -> int:
        return self.serving.tp * self.replicas

    @property
    def prefill_share(self) -> Interval:
        """Part of a replica's time that goes to prefills; the promise wants even the slow end below 1."""
        return self.serving.prefill_s(self.load.prompt) * (self.load.rate / self.replicas)

    @property
    def step_s(self) -> Interval:
        """Of a decode step by itself."""
        return self.serving.decode_s(self.batch, self.load.context)

    @property
    def tpot_s(self) -> Interval:
        """Seconds per token after the first, prefills in between included."""
        return self.step_s / (1 - self.prefill_share)

    @property
    def ttft_s(self) -> Interval:
        """Mean seconds to the first token: the step under way to its end, the prefills before, one's own."""
        prefill, busy = self.serving.prefill_s(self.load.prompt), self.prefill_share
        return prefill + prefill * busy / (1 - busy) * 0.5 + self.step_s

    @property
    def throughput_tokens_per_s(self) -> Interval:
        """Tokens that all replicas can generate per second at this batch beside their prefills."""
        return self.replicas * self.batch / self.tpot_s

    @property
    def parts(self) -> dict[str, int]:
        """Bytes on one GPU; they add up to its memory."""
        s = self.serving
        cache = self.batch * s.kv_bytes(self.load.tokens)
        return {
            "weights": s.weight_bytes,
            "KV cache": cache,
            "reserve": s.reserve,
            "free": s.room_bytes - cache,
        }


@dataclass(frozen=True)
class Shortfall:
    """Why a replica does not do: `need` is more than `limit`."""

    constraint: str
    need: float
    limit: float
    said: str

    @property
    def rank(self) -> tuple[bool, float]:
        """Nearest to a plan first: what fits and is late, then what does not fit, each by its excess."""
        return self.constraint == "memory", self.need / self.limit


def fewest_gpus(m: ModelSpec, on: Device, load: Load, dtype: str = "bfloat16", tp: int = 0) -> ServingPlan:
    """The plan with the fewest GPUs; of equals the one with the smaller tp.

    Args:
        m, on, dtype: as `Serving` takes them.
        load: latencies are compared at the middle of their intervals.
        tp: 0 to try all up to the GPUs of a node that divide the heads.

    Raises:
        NoPlan: the message names the binding constraint.
        ValueError: wrong input.
    """
    first = Serving(m, on, tp or 1, dtype)
    check(m, Workload(context=load.tokens), Parallel(tp=first.tp))
    plans: list[ServingPlan] = []
    short: list[Shortfall] = []
    for serving in [first] if tp else degrees(m, on, dtype):
        one = smallest(serving, load)
        if isinstance(one, ServingPlan):
            plans.append(one)
        else:
            short.append(one)
    if plans:
        return min(plans, key=lambda p: (p.gpus, p.serving.tp))
    worst = min(short, key=lambda s: s.rank)
    where = f"{m.name} in {dtype} on {on.name} with {f'tp {tp}' if tp else f'any tp up to {NODE}'}"
    more = [s.tp for s in degrees(m, on, dtype) if s.largest_batch(load.tokens)]
    remedy = f"; --tp {more[0]} has room" if worst.constraint == "memory" and more else ""
    raise NoPlan(f"no plan: {where} breaks {worst.constraint}: {worst.said}{remedy}")


def degrees(m: ModelSpec, on: Device, dtype: str) -> list[Serving]:
    """A replica for every tp up to a node that divides the heads."""
    found = []
    for tp in range(1, NODE + 1):
        try:
            found.append(Serving(m, on, tp, dtype))
        except ValueError:  # does not divide
            continue
    return found


def smallest(serving: Serving, load: Load) -> ServingPlan | Shortfall:
    """The fewest replicas of this kind. More replicas make each one's batch and queue smaller, so latencies
    fall as their number grows and bisection finds it."""
    alone = never(serving, load)
    if alone is not None:
        return alone
    high = 1
    while (plan := fitting(serving, load, high)) is None:
        high *= 2
        if high > MOST_REPLICAS:
            return Shortfall("rate", 2.0, 1.0, f"more than {MOST_REPLICAS:,} replicas would be needed")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        tried = fitting(serving, load, middle)
        if tried is None:
            low = middle
        else:
            high, plan = middle, tried
    return plan


def fitting(serving: Serving, load: Load, replicas: int) -> ServingPlan | None:
    """The plan with so many replicas at the batch of Little's law, None where it breaks a promise."""
    largest = serving.largest_batch(load.tokens)
    busy = serving.prefill_s(load.prompt) * (load.rate / replicas)
    if largest < 1 or busy.high >= 1:
        return None
    stretch = (load.output - 1) * load.rate / replicas / (1 - busy.mid)

    def carries(batch: int) -> bool:
        """Little's law: as many in decoding as arrive in the time that one is in it. Tokens per second do not
        fall as the batch grows, so from the smallest such batch on all do."""
        return batch >= stretch * serving.decode_s(batch, load.context).mid

    if not carries(largest):
        return None
    low, batch = 0, largest
    while batch - low > 1:
        middle = (low + batch) // 2
        low, batch = (low, middle) if carries(middle) else (middle, batch)
    plan = ServingPlan(serving, replicas, load, batch)
    in_time = load.output == 1 or plan.tpot_s.mid <= load.tpot  # no second token, no time between tokens
    return plan if in_time and plan.ttft_s.mid <= load.ttft else None


def never(serving: Serving, load: Load) -> Shortfall | None:
    """What no number of replicas mends: a single request on idle GPUs already breaks it."""
    on, over = serving.on, serving.kv_bytes(load.tokens) - serving.room_bytes
    if over > 0:
        has, cache = on.memory_bytes, serving.kv_bytes(load.tokens)
        said = (
            f"{_amount(serving.weight_bytes)} of weights, {_amount(cache)} of KV cache for one sequence "
            f"and {_amount(serving.reserve)} in reserve are {_amount(over)} more than {_amount(has)}"
        )
        return Shortfall("memory", has + over, has, said)
    floor, step = serving.floor_s().mid, serving.decode_s(1, load.context).mid
    if load.output > 1 and step >= load.tpot:
        ideal = serving.read_bytes(1) / on.memory_bytes_per_s
        reading = f"one reading of the weights ({show(ideal, 's')} at the full bandwidth)"
        most = reading if floor >= load.tpot else "a step of a single sequence"
        need = floor if floor >= load.tpot else step
        return Shortfall("tpot", step, load.tpot, _late(most, need, load.tpot))
    first = serving.prefill_s(load.prompt).mid
    if first + step >= load.ttft:
        most = f"prefill of {load.prompt:,} tokens" + (
            "" if first >= load.ttft else " after a step under way"
        )
        need = first if first >= load.ttft else first + step
        return Shortfall("ttft", first + step, load.ttft, _late(most, need, load.ttft))
    return None


def _late(what: str, need: float, limit: float) -> str:
    over = f"{show(need - limit, 's')} more than" if need > limit else "which leaves no time for others of"
    return f"{what} takes {show(need, 's')}, {over} {show(limit, 's')}"


def _amount(size: float) -> str:
    return show(size, "B")
