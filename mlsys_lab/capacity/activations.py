"""What the forward pass keeps for the backward one, tensor by tensor.

After Korthikanti et al. 2022 (arXiv 2205.05198, section 4): for a GPT with dropout and 16-bit numbers the
list sums to s b h (34 + 5 a s / h) bytes per layer. As a list it also holds for grouped heads, gated MLPs,
experts and attention that does not keep its scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlsys_lab.capacity.models import ModelSpec
from mlsys_lab.capacity.parallel import Parallel, Workload
from mlsys_lab.capacity.transformer import is_dense


@dataclass(frozen=True)
class Saved:
    """One tensor that a layer keeps.

    Attributes:
        name: what it is.
        bytes_per_token: of one sequence's token.
        split: over the tensor-parallel ranks; the others only with sequence parallelism.
        core: belongs to attention's core, which selective recomputation drops.
    """

    name: str
    bytes_per_token: float
    split: bool = False
    core: bool = False


def saved_by_layer(m: ModelSpec, w: Workload, layer: int = 0) -> Iterator[Saved]:
    """The tensors that one layer keeps, without any parallelism or recomputation."""
    wide, h = w.dtype_bytes, m.hidden
    queries = m.heads * m.head_dim
    keys, values = (
        (queries, m.heads * m.mla.v) if m.mla else (m.kv_heads * m.head_dim, m.kv_heads * m.head_dim)
    )
    for i in range(m.norms_per_layer):
        yield Saved(f"input of norm {i + 1}", wide * h)
        yield Saved(f"statistics of norm {i + 1}", norm_statistics(m))
    yield Saved("input of query, key, value", wide * h)
    if m.mla:
        yield Saved(
            "compressed queries, keys, values", wide * (2 * m.mla.q_rank + 2 * m.mla.kv_rank + m.mla.rope)
        )
    for name, width in (("queries", queries), ("keys", keys), ("values", values)):
        yield Saved(name, wide * width, split=True)
    if w.attention == "materialised":
        scores = m.heads * w.context
        yield Saved("softmax", wide * scores, split=True, core=True)
        if w.dropout:
            yield Saved("softmax after dropout", wide * scores, split=True, core=True)
            yield Saved("mask of the scores", scores, split=True, core=True)
    else:
        yield Saved("log-sum-exp", 4 * m.heads, split=True)
    yield Saved(
        "input of the output projection", wide * (m.heads * m.mla.v if m.mla else queries), split=True
    )
    if w.dropout:
        yield Saved("mask after attention", h)
        yield Saved("mask after the MLP", h)
    dense = is_dense(m, layer)
    yield Saved("input of the MLP", wide * h)
    if dense or m.moe is None:
        yield from _mlp(m, wide, m.intermediate, "MLP")
        return
    e = m.moe
    yield Saved("tokens sent to experts", wide * h * e.per_token)
    yield from _mlp(m, wide, e.intermediate * e.per_token, "experts")
    if e.shared:
        yield from _mlp(m, wide, e.shared, "shared experts")
    yield Saved("outputs of experts before weighting", wide * h * e.per_token)
    yield Saved("router", 4 * 2 * e.experts)


def _mlp(m: ModelSpec, wide: int, width: int, name: str) -> Iterator[Saved]:
    yield Saved(f"input of the activation, {name}", wide * width, split=True)
    if m.gated:
        yield Saved(f"output of the activation, {name}", wide * width, split=True)
        yield Saved(f"other factor, {name}", wide * width, split=True)
    yield Saved(f"input of the second product, {name}", wide * width, split=True)


def norm_statistics(m: ModelSpec) -> int:
    """Bytes per token of a norm's float32 mean and scale; the paper leaves these out."""
    return 4 if m.norm == "rms" else 8


def layer_bytes(m: ModelSpec, w: Workload, p: Parallel, layer: int = 0) -> float:
    """Bytes that one layer keeps for one micro-batch on one GPU."""
    tokens = w.context * w.micro_batch / p.cp
    if p.recompute == "full":  # its input alone
        return tokens * w.dtype_bytes * m.hidden / (p.tp if p.sp else 1)
    total = 0.0
    for item in saved_by_layer(m, w, layer):
        if item.core and p.recompute == "selective":
            continue
        total += item.bytes_per_token / (p.tp if item.split or p.sp else 1)
    return tokens * total


def in_flight(layers: int, w: Workload, p: Parallel, stage: int = 0) -> float:
    """Layers' worth of activations that a pipeline stage holds at once, over all micro-batches in flight.

    One forward, one backward (1F1B): stage 0 holds pp micro-batches of layers / pp each, so `layers` in all
    however long the pipeline, and each later stage one micro-batch less; interleaving adds (pp - 1) / (pp m)
    of that (arXiv 2205.05198, section 4.2.3), here for every stage.
    """
    if p.pp == 1:
        return float(layers)
    waiting = w.micro_batches(p)
    if p.interleave == 1:
        return layers / p.pp * min(p.pp - stage, waiting)
    return layers * min(1 + (p.pp - 1) / (p.pp * p.interleave), waiting / p.pp)


def activation_bytes(m: ModelSpec, w: Workload, p: Parallel, stage: int = 0) -> float:
    """Bytes of the blocks' activations on a GPU of a pipeline stage, without embedding and loss."""
    if p.pp == 1:
        return sum(layer_bytes(m, w, p, layer) for layer in range(m.layers))
    heaviest = max(layer_bytes(m, w, p, layer) for layer in {0, m.layers - 1})
    return heaviest * in_flight(m.layers, w, p, stage)
