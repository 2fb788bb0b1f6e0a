"""Floating-point operations of a model: per operation, forward and backward, exact for its matrix products.

A multiply-add is two. Matrix products are counted, and what else there is (norms, activations, softmax) is
not, as in the papers and in torch's counter. The backward pass of a product is two products of its size;
attention is 4 b h s^2 d forward, its backward 8, or 10 where the scores are computed again (flash, arXiv
2205.14135).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mlsys_lab.capacity.convnets import ConvNet
from mlsys_lab.capacity.models import Counts, ModelSpec

ATTENTION_BACKWARD = {"flash": 10, "materialised": 8}


@dataclass(frozen=True)
class Operation:
    """One kind of product of a pass.

    Attributes:
        part, name: of the weight, or "attention" and "scores and values".
        forward: FLOPs of the forward pass, all layers and positions.
        backward: FLOPs of its gradients.
    """

    part: str
    name: str
    forward: int
    backward: int


def operations(
    m: Counts, batch: int = 1, context: int = 0, *, attention: str = "flash", causal: bool = False
) -> tuple[Operation, ...]:
    """The products of one training step on `batch` inputs.

    Args:
        m: the model.
        batch: sequences or images.
        context: tokens per sequence; images need none.
        attention: "flash" (its backward computes the scores again) or "materialised".
        causal: count the lower half of the scores alone, as a kernel that skips the rest does. Published
            counts (PaLM's, Megatron's) take the whole square.

    Returns:
        One entry per kind of weight, then the products of attention that have no weight.
    """
    if batch < 1:
        raise ValueError(f"expected a batch of at least 1, got {batch}")
    if attention not in ATTENTION_BACKWARD:
        raise ValueError(f"attention is one of {', '.join(ATTENTION_BACKWARD)}, got {attention!r}")
    tokens = _tokens(m, context)
    found = [
        Operation(w.part, w.name, n, 2 * n)
        for w in m.weights
        if w.multiplies
        for n in [2 * w.multiplied * batch * (tokens if w.positions is None else w.positions)]
    ]
    if isinstance(m, ModelSpec):
        pairs = tokens * (tokens + 1) // 2 if causal else tokens**2
        product = 2 * batch * pairs * m.layers * m.heads  # per unit of width
        keys, values = (m.mla.nope + m.mla.rope, m.mla.v) if m.mla else (m.head_dim, m.head_dim)
        extra = product * keys if attention == "flash" else 0
        forward = product * (keys + values)
        found.append(Operation("attention", "scores and values", forward, 2 * forward + extra))
    return tuple(found)


def _tokens(m: Counts, context: int) -> int:
    if isinstance(m, ConvNet):
        return 1
    if not isinstance(m, ModelSpec):
        raise ValueError(
            f"{m.name}: only the weights are known, not where they multiply; trace the module instead"
        )
    if m.kind == "vision":
        return m.positions
    if context < 1:
        raise ValueError(f"expected a context of at least 1 token, got {context}")
    return context


def forward_flops(m: Counts, batch: int = 1, context: int = 0, *, causal: bool = False) -> int:
    """FLOPs of a forward pass; see `operations`."""
    return sum(o.forward for o in operations(m, batch, context, causal=causal))


def train_flops(
    m: Counts, batch: int = 1, context: int = 0, *, attention: str = "flash", causal: bool = False,
    recompute: str = "none",
) -> int:  # fmt: skip
    """FLOPs of a training step.

    Args:
        m, batch, context, attention, causal: as in `operations`.
        recompute: "none"; "selective" computes the products of attention again; "full" every block, but not
            the output layer (arXiv 2205.05198, section 5 and appendix A).
    """
    total = 0
    for o in operations(m, batch, context, attention=attention, causal=causal):
        again = recompute == "full" and o.part not in ("head", "embedding", "pooler")
        again = again or (recompute == "selective" and o.name == "scores and values")
        total += o.forward * (2 if again else 1) + o.backward
    return total


def six_nd(parameters: float, tokens: float) -> float:
    """6 N D: training FLOPs without attention's square (arXiv 2001.08361, section 2.1)."""
    return 6 * parameters * tokens


def total(found: Iterable[Operation]) -> tuple[int, int]:
    """Forward and backward FLOPs of a list of operations."""
    listed = list(found)
    return sum(o.forward for o in listed), sum(o.backward for o in listed)
