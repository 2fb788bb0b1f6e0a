"""Memory of a training step on the GPU that needs most: by part, by phase, and as the maximum over phases.

A step goes through phases, and not everything lives at once: gradients are not there when the first forward
pass
ends, activations are gone when the optimiser runs. The sum of all parts is what estimators print; the peak is
the
largest phase.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlsys_lab.capacity.activations import activation_bytes, layer_bytes, norm_statistics
from mlsys_lab.capacity.models import ModelSpec
from mlsys_lab.capacity.parallel import Parallel, Workload, check
from mlsys_lab.capacity.transformer import block_weights, embedding_weights, last_weights
from mlsys_lab.capacity.weights import Weight


@dataclass(frozen=True)
class Held:
    """Parameters that one GPU holds, before ZeRO.

    Attributes:
        shared: of attention, MLPs, norms, embedding: replicated over the dp replicas.
        experts: replicated over dp / ep of them.
        largest: of one tensor.
        layer: of one layer, which ZeRO-3 gathers whole.
    """

    shared: int
    experts: int
    largest: int
    layer: int


@dataclass(frozen=True)
class TrainingMemory:
    """The answer: bytes by phase and part.

    Attributes:
        phases: phase -> part -> bytes, in the order of a step.
        stage: the pipeline stage that needs most; the phases are its own.
    """

    phases: Mapping[str, Mapping[str, float]]
    stage: int = 0

    @property
    def peak_phase(self) -> str:
        """The phase with the largest sum."""
        return max(self.phases, key=lambda phase: sum(self.phases[phase].values()))

    @property
    def parts(self) -> dict[str, float]:
        """Bytes by part in the peak phase; their sum is `peak_bytes`."""
        return dict(self.phases[self.peak_phase])

    @property
    def peak_bytes(self) -> float:
        return sum(self.parts.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "peak_bytes": self.peak_bytes,
            "parts": self.parts,
            "phase": self.peak_phase,
            "stage": self.stage,
        }


def held(m: ModelSpec, p: Parallel, stage: int = 0) -> Held:
    """What one GPU of a pipeline stage stores; a tied output on the last of several stages is a copy."""
    each = m.layers // (p.pp * p.interleave)
    listed: list[Weight] = []
    for chunk in range(p.interleave):
        first = (chunk * p.pp + stage) * each
        listed += block_weights(m, first, first + each)
    blocks = len(listed)
    if stage == 0:
        listed += embedding_weights(m)
    if stage == p.pp - 1:
        copy = m.tied and m.head and p.pp > 1
        tied = [w for w in embedding_weights(m) if w.name == "tokens"] if copy else []
        listed += [*last_weights(m), *tied]
    sizes = [(w, _on_rank(w, m, p)) for w in listed]
    return Held(
        shared=sum(n for w, n in sizes if w.shard != "expert"),
        experts=sum(n for w, n in sizes if w.shard == "expert"),
        largest=max((n // max(w.copies // _expert_share(w, p), 1) for w, n in sizes if w.copies), default=0),
        layer=sum(n for _, n in sizes[:blocks]) // (each * p.interleave),
    )


def _expert_share(w: Weight, p: Parallel) -> int:
    return p.ep if w.shard == "expert" else 1


def _on_rank(w: Weight, m: ModelSpec, p: Parallel) -> int:
    """Numbers of a weight, all copies, on one tensor- and expert-parallel rank."""
    split = {"": 1, "tp": p.tp, "kv": min(p.tp, m.kv_heads), "expert": p.tp}[w.shard]
    return math.ceil(w.size / split) * (w.copies // _expert_share(w, p))


def training_memory(m: ModelSpec, w: Workload, p: Parallel | None = None) -> TrainingMemory:
    """Peak memory of one GPU in a training step.

    Args:
        m: the model.
        w: what a step trains on; its `context` and `micro_batch` count here.
        p: the layout; one GPU by default.

    Returns:
        The phases of the pipeline stage that needs most. The framework's own memory (CUDA context, about 0.5
        GB;
        communication buffers; fragmentation) is not in it.

    Raises:
        ValueError: the layout does not divide; see `parallel.check`.
    """
    p = p or Parallel()
    check(m, w, p)
    return max(
        (TrainingMemory(_phases(m, w, p, stage), stage) for stage in range(p.pp)),
        key=lambda found: found.peak_bytes,
    )


def model_state_bytes(parameters: float, w: Workload, shards: int = 1, zero: int = 0) -> dict[str, float]:
    """Bytes of weights, gradients and optimiser of so many parameters, with ZeRO over `shards` replicas."""
    return {
        "weights": parameters * w.dtype_bytes / (shards if zero >= 3 else 1),
        "gradients": parameters * w.gradient_bytes / (shards if zero >= 2 else 1),
        "optimizer": parameters * w.state_bytes / (shards if zero >= 1 else 1),
    }


def _phases(m: ModelSpec, w: Workload, p: Parallel, stage: int) -> dict[str, dict[str, float]]:
    has = held(m, p, stage)
    shards = p.dp * p.cp
    shared = model_state_bytes(has.shared, w, shards, p.zero)
    experts = model_state_bytes(has.experts, w, shards // p.ep, p.zero)
    state = {part: shared[part] + experts[part] for part in shared}
    resident = {"weights": state["weights"], "optimizer": state["optimizer"]}
    if p.zero >= 3:  # one layer in use, the next on its way
        resident["gathered weights"] = 2 * has.layer * w.dtype_bytes
    several = (
        w.micro_batches(p) > 1
    )  # the first micro-batch's gradients live through the others' forward passes
    gradients = state["gradients"]
    early = resident | ({"gradients": gradients} if several else {})

    last = stage == p.pp - 1
    tokens = w.context * w.micro_batch / p.cp
    row = tokens * w.dtype_bytes / (p.tp if p.sp else 1)  # of one number per token, where it is not split
    split_row = tokens * w.dtype_bytes / p.tp
    blocks = activation_bytes(m, w, p)
    if stage and p.interleave == 1:
        blocks *= (p.pp - stage) / p.pp  # later stages hold fewer micro-batches
    once = layer_bytes(m, w, replace(p, recompute="none")) if p.recompute == "full" else 0.0
    ends = _ends(m, w, p, tokens) if last else 0.0
    logits = split_row * m.vocab if last and m.head and m.kind == "decoder" else 0.0
    mlp = split_row * (m.intermediate * (2 if m.gated else 1)) + row * m.hidden
    attention = 2 * split_row * (m.heads + 2 * m.kv_heads) * m.head_dim + row * m.hidden

    done = w.gradient_bytes * (m.vocab * m.hidden * (not m.tied) + m.intermediate * m.hidden) / p.tp
    phases = {
        "end of forward": early | {"activations": blocks + ends, "logits": 2 * logits},
        "loss backward": early | {"activations": blocks + ends, "logits": 3 * logits},
        "last block backward": resident
        | {"gradients": gradients if several else min(done, gradients), "activations": blocks + once + mlp},
        "first block backward": resident
        | {
            "gradients": gradients - (0.0 if several or stage else _before_first_block(m, w, p)),
            "activations": attention,
        },
        "end of backward": resident | {"gradients": gradients, "activations": row * m.hidden},
        "optimizer step": resident | {"gradients": gradients, "temporaries": _temporaries(w, has, p)},
    }
    if (
        m.tied and m.head and p.pp == 1
    ):  # the output's gradient waits for the embedding's; their sum is a third
        both = 2 * m.vocab * (m.embedding_width or m.hidden) * w.gradient_bytes / p.tp
        phases["embedding backward"] = resident | {"gradients": gradients, "temporaries": both}
    return {phase: {k: v for k, v in parts.items() if v} for phase, parts in phases.items()}


def _before_first_block(m: ModelSpec, w: Workload, p: Parallel) -> float:
    """Gradients that the first block's attention comes before: of its norm and of the embedding."""
    scale = m.hidden * {"layer": 2, "plain": 0}.get(m.norm, 1)
    embedding = 0 if m.tied else sum(_on_rank(x, m, p) for x in embedding_weights(m))
    return w.gradient_bytes * (embedding + scale) / (p.dp * p.cp if p.zero >= 2 else 1)


def _ends(m: ModelSpec, w: Workload, p: Parallel, tokens: float) -> float:
    """What the last norm and the output layer keep: their inputs."""
    per_token = w.dtype_bytes * m.hidden * (int(m.final_norm) + int(m.head)) + norm_statistics(m)
    return tokens * per_token / (p.tp if p.sp else 1)


def _temporaries(w: Workload, has: Held, p: Parallel) -> float:
    """Float32 buffers of an Adam step that is not in place: two of the largest tensor, or one of all."""
    if w.step == "fused" or w.optimizer in ("sgd", "momentum"):
        return 0.0
    shards = p.dp * p.cp if p.zero else 1
    return 4.0 * (2 * has.largest if w.step == "single" else has.shared + has.experts) / shards
