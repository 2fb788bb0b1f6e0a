"""The phases of a training step on one GPU, each with the bytes that live in it.

Found by following torch's allocator through a step: what the loss needs, what the last block's backward adds
before it gives anything back, what is left when the first block's gradients come, what the optimiser borrows.
"""

from __future__ import annotations

from dataclasses import replace

from mlsys_lab.capacity.activations import activation_bytes, layer_bytes, norm_statistics
from mlsys_lab.capacity.held import Held, held, model_state_bytes, on_rank
from mlsys_lab.capacity.models import ModelSpec
from mlsys_lab.capacity.parallel import Parallel, Workload
from mlsys_lab.capacity.transformer import embedding_weights


def phases(m: ModelSpec, w: Workload, p: Parallel, stage: int = 0) -> dict[str, dict[str, float]]:
    """Phase -> part -> bytes for one GPU of a pipeline stage, in the order of a step."""
    has = held(m, p, stage)
    resident, gradients = _states(w, p, has)
    several = w.micro_batches(p) > 1
    # The first micro-batch's gradients live through the others' forward passes.
    early = resident | ({"gradients": gradients} if several else {})

    last, again = stage == p.pp - 1, p.recompute == "full"
    tokens = w.context * w.micro_batch / p.cp
    row = tokens * w.dtype_bytes / (p.tp if p.sp else 1)  # of one number per token, where it is not split
    split_row = tokens * w.dtype_bytes / p.tp
    blocks = activation_bytes(m, w, p, stage)
    # What a block keeps when it is computed again; its own input is among those that were kept.
    once = layer_bytes(m, w, replace(p, recompute="none")) - row * m.hidden if again else 0.0
    ends = _ends(m, w, p, tokens) if last else 0.0
    logits = split_row * m.vocab if last and m.head and m.kind == "decoder" else 0.0
    width = m.intermediate if m.moe is None else m.moe.intermediate * m.moe.per_token + m.moe.shared
    mlp = split_row * width * (2 if m.gated else 1) + row * m.hidden
    attention = 2 * split_row * (m.heads + 2 * m.kv_heads) * m.head_dim + row * m.hidden

    matrix = w.gradient_bytes * m.hidden * (m.intermediate if m.moe is None else m.moe.intermediate) / p.tp
    fresh = matrix if several else 0.0  # a gradient before it is added to the one that waits
    done = matrix + (0 if m.tied else w.gradient_bytes * m.vocab * m.hidden / p.tp)
    before = 0.0 if several or stage else _before_first_block(m, w, p)
    found = {
        "end of forward": early | {"activations": blocks + ends, "logits": 2 * logits},
        "loss backward": early | {"activations": blocks + ends, "logits": 3 * logits},
        "last block backward": resident
        | {"gradients": gradients if several else min(done, gradients)}
        | {"activations": blocks + once + mlp, "temporaries": fresh},
        "first block backward": resident | {"gradients": gradients - before, "activations": attention},
        "end of backward": resident | {"gradients": gradients, "activations": row * m.hidden},
        "optimizer step": resident | {"gradients": gradients, "temporaries": _temporaries(w, has, p)},
    }
    if w.loss == "fused" and logits:  # the gradient of the logits is there until the output layer used it
        found["loss backward"] = early | {"activations": blocks + ends, "logits": 2 * logits}
        matrix_of_head = w.gradient_bytes * m.vocab * m.hidden / p.tp
        found["head backward"] = resident | {
            "gradients": gradients if several else min(matrix_of_head, gradients),
            "activations": blocks + ends,
            "logits": 2 * logits,
            "temporaries": row * m.hidden + (matrix_of_head if several else 0.0),
        }
    if again:  # the first block is computed again when all other gradients are there
        own = 0.0 if several else before + has.layer * w.gradient_bytes / _shards(p, 2)
        found["first block again"] = resident | {
            "gradients": max(gradients - own, 0.0),
            "activations": row * m.hidden + once + mlp,
            "temporaries": fresh,
        }
    if m.tied and m.head and p.pp == 1:
        # The output's gradient waits for the embedding's, and their sum is a third.
        both = 2 * m.vocab * (m.embedding_width or m.hidden) * w.gradient_bytes / p.tp
        found["embedding backward"] = resident | {"gradients": gradients, "temporaries": both}
    return {phase: {k: v for k, v in parts.items() if v} for phase, parts in found.items()}


def _states(w: Workload, p: Parallel, has: Held) -> tuple[dict[str, float], float]:
    """What lives through the whole step, and the bytes of all gradients."""
    shards = p.dp * p.cp
    shared = model_state_bytes(has.shared, w, shards, p.zero)
    experts = model_state_bytes(has.experts, w, shards // p.ep, p.zero)
    state = {part: shared[part] + experts[part] for part in shared}
    resident = {"weights": state["weights"], "optimizer": state["optimizer"]}
    if p.zero >= 3:  # one layer in use, the next on its way
        resident["gathered weights"] = 2 * has.layer * w.dtype_bytes
    return resident, state["gradients"]


def _shards(p: Parallel, stage: int) -> int:
    """Over how many ranks ZeRO spreads what its `stage` shards."""
    return p.dp * p.cp if p.zero >= stage else 1


def _before_first_block(m: ModelSpec, w: Workload, p: Parallel) -> float:
    """Gradients that the first block's attention comes before: of its norm and of the embedding."""
    scale = m.hidden * {"layer": 2, "plain": 0}.get(m.norm, 1)
    embedding = 0 if m.tied else sum(on_rank(x, m, p) for x in embedding_weights(m))
    return w.gradient_bytes * (embedding + scale) / _shards(p, 2)


def _ends(m: ModelSpec, w: Workload, p: Parallel, tokens: float) -> float:
    """What the last norm and the output layer keep: their inputs."""
    per_token = w.dtype_bytes * m.hidden * (int(m.final_norm) + int(m.head)) + norm_statistics(m)
    return tokens * per_token / (p.tp if p.sp else 1)


def _temporaries(w: Workload, has: Held, p: Parallel) -> float:
    """Float32 buffers of an Adam step that is not in place: of one tensor after the other, or of all."""
    if w.step == "fused" or w.optimizer in ("sgd", "momentum"):
        return 0.0
    return 4.0 * (has.step if w.step == "single" else has.shared + has.experts) / _shards(p, 1)
