"""Time of one training step from its operations: products, traffic of memory, tensor-parallel collectives,
bubble.

The efficiencies come from single operations that others measured (data/runs.toml: one GEMM per GPU, one all-
reduce),
never from a run that is to be predicted. Collectives of tensor parallelism are counted in full, those of data
parallelism as far as the last backward pass does not hide them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlsys_lab._core.hardware import Device
from mlsys_lab.capacity.flops import Operation, operations
from mlsys_lab.capacity.interval import Interval
from mlsys_lab.capacity.models import ModelSpec
from mlsys_lab.capacity.op_time import STREAMING, all_reduce_s, gemm_efficiency, link_efficiency
from mlsys_lab.capacity.parallel import Parallel, Workload, check

#: Between nodes, per GPU: one HDR InfiniBand link of 200 Gbit/s each, as in a DGX A100 (NVIDIA, 2020).
NETWORK_BYTES_PER_S = 25e9


@dataclass(frozen=True)
class StepTime:
    """Seconds of a step, and of what it is made: the parts add up, the bubble is in each.

    Attributes:
        parts: "products", "memory", "tensor parallel", "data parallel": seconds.
        bubble: share of the step in which a pipeline stage waits.
        model_flops: of the step over all GPUs, without recomputation.
        peak: dense 16-bit FLOP/s of all GPUs together.
    """

    parts: dict[str, Interval]
    bubble: float
    model_flops: float
    peak: float

    @property
    def time_s(self) -> Interval:
        first, *others = self.parts.values()
        for part in others:
            first = first + part
        return first

    @property
    def mfu(self) -> Interval:
        """Model FLOPs over what the GPUs could have done in the time."""
        return self.model_flops / self.peak / self.time_s

    def to_json(self) -> dict[str, Any]:
        parts = {name: part.to_json() for name, part in self.parts.items()}
        return {
            "time_s": self.time_s.to_json(),
            "mfu": self.mfu.to_json(),
            "parts": parts,
            "bubble": self.bubble,
        }


def step_time(m: ModelSpec, w: Workload, p: Parallel, on: Device, *, gpus_per_node: int = 8) -> StepTime:
    """Time of one optimiser step.

    Args:
        m: the model.
        w: the step's work; `batch` sequences over all replicas.
        p: the layout.
        on: the GPU.
        gpus_per_node: that share the fast link.

    Raises:
        ValueError: the layout does not divide.
    """
    check(m, w, p)
    micro = w.micro_batches(p)
    found = operations(m, w.micro_batch, w.context, attention=w.attention)
    of_blocks, of_ends = 0.0, 0.0
    for o in found:
        if o.part in ("head", "embedding", "pooler"):
            of_ends += o.forward + o.backward
        else:
            of_blocks += o.forward + o.backward + _again(o, p)
    ranks = p.tp * p.cp
    flops = (of_blocks / p.pp + of_ends) / ranks * micro  # the last stage, which has the output layer too
    bubble = (p.pp - 1) / (micro * p.interleave)
    products = flops / on.half_peak() / gemm_efficiency(on)
    memory = _traffic(m, w, p) * micro / on.memory_bytes_per_s / STREAMING
    collectives = _tensor_parallel(m, w, p, on, gpus_per_node) * micro
    stretch = 1 + bubble
    model_flops = sum(o.forward * 3 for o in found) * micro * p.dp
    return StepTime(
        {
            "products": products * stretch,
            "memory": memory * stretch,
            "tensor parallel": collectives * stretch,
            "data parallel": _data_parallel(m, w, p, on, gpus_per_node, products * (1 / micro)),
        },
        bubble / (1 + bubble),
        float(model_flops),
        on.half_peak() * p.gpus,
    )


def _again(o: Operation, p: Parallel) -> int:
    """Forward products that recomputation repeats."""
    core = o.name == "scores and values"
    return o.forward if p.recompute == "full" or (p.recompute == "selective" and core) else 0


def _traffic(m: ModelSpec, w: Workload, p: Parallel) -> float:
    """Bytes that element-wise kernels move for one micro-batch on one GPU: forward, twice that backward, and
    again
    where it is recomputed. Each kernel reads its inputs and writes its output once."""
    wide, tokens = w.dtype_bytes, w.context * w.micro_batch / p.cp
    mask = 1 if w.dropout else 0
    norms = m.norms_per_layer * 2 * wide * m.hidden
    residuals = 2 * (3 * wide + mask) * m.hidden
    width = m.intermediate if m.moe is None else m.moe.intermediate * m.moe.per_token + m.moe.shared
    activation = (3 if m.gated else 2) * wide * width
    scores = m.heads * w.context * (4 * wide + (wide + 1) * mask) if w.attention == "materialised" else 0
    split = (norms + residuals) / (p.tp if p.sp else 1) + (activation + scores) / p.tp
    passes = 4 if p.recompute == "full" else 3
    again = scores / p.tp if p.recompute == "selective" else 0.0
    return tokens * (split * passes + again) * m.layers / p.pp


def _tensor_parallel(m: ModelSpec, w: Workload, p: Parallel, on: Device, gpus_per_node: int) -> Interval:
    """Two all-reduces forward and two backward per layer (or a reduce-scatter and an all-gather each, the
    same bytes
    with sequence parallelism), two more when the layer is computed again."""
    if p.tp == 1:
        return Interval.exact(0.0)
    size = w.context * w.micro_batch / p.cp * m.hidden * w.dtype_bytes
    count = (6 if p.recompute == "full" else 4) * m.layers / p.pp
    way = on.link_bytes_per_s / 2 if p.tp <= gpus_per_node else NETWORK_BYTES_PER_S
    return all_reduce_s(size, p.tp, way * link_efficiency()) * count


def _data_parallel(
    m: ModelSpec, w: Workload, p: Parallel, on: Device, gpus_per_node: int, last_micro_batch: Interval
) -> Interval:
    """The gradients' all-reduce, less what the last micro-batch's backward (two thirds of it) can hide.

    From ZeRO's stage 2 on each micro-batch scatters its gradients, and stage 3 gathers the weights for each
    forward and each backward pass (arXiv 1910.02054, section 7); both run beside the products.
    """
    if p.dp == 1:
        return Interval.exact(0.0)
    inside = p.gpus <= gpus_per_node
    way = (on.link_bytes_per_s / 2 if inside else NETWORK_BYTES_PER_S) * link_efficiency()
    held, hidden = m.parameters / (p.tp * p.pp), last_micro_batch * (2 / 3)
    took = all_reduce_s(held * w.gradient_bytes, p.dp, way)
    if p.zero < 3:
        low, mid = max(took.low - hidden.high, 0.0), max(took.mid - hidden.mid, 0.0)
        found = Interval(low, mid, max(took.high, mid), "assumed", took.rows)
    else:
        gathers = all_reduce_s(held * w.dtype_bytes, p.dp, way)  # two of half an all-reduce each
        found = _beyond(took * 0.5, hidden) + _beyond(gathers, last_micro_batch) * w.micro_batches(p)
    if p.zero >= 2:
        found = found + _beyond(took * 0.5, hidden) * (w.micro_batches(p) - 1)
    return found


def _beyond(took: Interval, hidden: Interval) -> Interval:
    """What of a collective the products beside it do not hide."""
    low, mid, high = took.low - hidden.high, took.mid - hidden.mid, took.high - hidden.low
    return Interval(max(low, 0.0), max(mid, 0.0), max(high, 0.0), "assumed", took.rows)
