"""What one GPU of a layout stores: its part of the weights, and the states of training by ZeRO."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from mlsys_lab.capacity.models import ModelSpec
from mlsys_lab.capacity.parallel import Parallel, Workload
from mlsys_lab.capacity.transformer import block_weights, embedding_weights, last_weights
from mlsys_lab.capacity.weights import Weight


@dataclass(frozen=True)
class Held:
    """Parameters that one GPU holds, before ZeRO.

    Attributes:
        shared: of attention, MLPs, norms, embedding: replicated over the dp replicas.
        experts: replicated over dp / ep of them.
        step: most that an optimiser holds which takes the tensors one by one: two temporaries of one, and
            one of the tensor before, which torch's loop has not let go yet.
        layer: of one layer, which ZeRO-3 gathers whole.
    """

    shared: int
    experts: int
    step: int
    layer: int


def held(m: ModelSpec, p: Parallel, stage: int = 0) -> Held:
    """What one GPU of a pipeline stage stores; a tied output on the last of several stages is a copy."""
    return _held(m, Parallel(dp=p.ep, tp=p.tp, pp=p.pp, interleave=p.interleave, ep=p.ep), stage)


@lru_cache(maxsize=4096)  # of what does not matter here (replicas, ZeRO, recomputation) a search tries many
def _held(m: ModelSpec, p: Parallel, stage: int) -> Held:
    each = m.layers // (p.pp * p.interleave)
    starts = [(chunk * p.pp + stage) * each for chunk in range(p.interleave)]
    blocks = [w for first in starts for w in block_weights(m, first, first + each)]
    listed = [*(embedding_weights(m) if stage == 0 else ()), *blocks]
    if stage == p.pp - 1:
        copy = m.tied and m.head and p.pp > 1
        listed += [*last_weights(m), *(w for w in embedding_weights(m) if copy and w.name == "tokens")]
    sizes = [(w, on_rank(w, m, p)) for w in listed if w.copies]
    tensors = [n // max(w.copies // _expert_share(w, p), 1) for w, n in sizes]
    return Held(
        shared=sum(n for w, n in sizes if w.shard != "expert"),
        experts=sum(n for w, n in sizes if w.shard == "expert"),
        step=max(before + 2 * now for before, now in pairwise([0, *tensors])),
        layer=sum(on_rank(w, m, p) for w in blocks) // (each * p.interleave),
    )


def _expert_share(w: Weight, p: Parallel) -> int:
    return p.ep if w.shard == "expert" else 1


def on_rank(w: Weight, m: ModelSpec, p: Parallel) -> int:
    """Numbers of a weight, all copies, on one tensor- and expert-parallel rank."""
    split = {"": 1, "tp": p.tp, "kv": min(p.tp, m.kv_heads), "expert": p.tp}[w.shard]
    return math.ceil(w.size / split) * (w.copies // _expert_share(w, p))


def model_state_bytes(parameters: float, w: Workload, shards: int = 1, zero: int = 0) -> dict[str, float]:
    """Bytes of weights, gradients and optimiser of so many parameters, with ZeRO over `shards` replicas."""
    return {
        "weights": parameters * w.dtype_bytes / (shards if zero >= 3 else 1),
        "gradients": parameters * w.gradient_bytes / (shards if zero >= 2 else 1),
        "optimizer": parameters * w.state_bytes / (shards if zero >= 1 else 1),
    }
