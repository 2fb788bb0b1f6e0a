"""How many floating-point operations each row of the differentiation table needs, forward and backward.

One addition, product, comparison or elementary function counts one, as the row writes them; work on what
a reduction leaves is not counted. A row that stands in neither table moves or compares elements: none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

# Per element of the largest array: forward, then the rule of each argument (a joint rule: all in one).
PER_ELEMENT: dict[str, tuple[int, ...]] = {
    "add": (1, 0, 0), "subtract": (1, 0, 1), "multiply": (1, 1, 1), "divide": (1, 1, 3), "negative": (1, 1),
    "abs": (1, 2), "maximum": (1, 3, 3), "minimum": (1, 3, 3), "clip": (2, 4), "pow": (1, 3, 5),
    "square": (1, 2), "sqrt": (1, 2), "exp": (1, 1), "expm1": (1, 2), "log": (1, 1), "log2": (1, 2),
    "log1p": (1, 2), "logaddexp": (1, 3, 3), "erf": (1, 5),
    "sin": (1, 2), "cos": (1, 3), "tan": (1, 3), "asin": (1, 4), "acos": (1, 5), "atan": (1, 3),
    "sinh": (1, 2), "cosh": (1, 2), "tanh": (1, 3),
    "sum": (1, 0), "mean": (1, 0), "max": (1, 4), "min": (1, 4), "cumulative_sum": (1, 1),
    "softmax": (5, 4), "log_softmax": (5, 4), "logsumexp": (4, 3), "cross_entropy": (7, 1),
    "relu": (1, 2), "sigmoid": (4, 3), "silu": (5, 9), "softplus": (3, 5), "gelu": (5, 11),
    "gelu_tanh": (9, 19), "bias_relu": (2, 3), "bias_gelu": (6, 13), "layer_norm": (7, 13),
    "rms_norm": (4, 9), "take": (0, 1), "take_along_axis": (0, 1), "embedding": (0, 1), "windows": (0, 1),
}  # fmt: skip

Counts = tuple[int, Sequence[int]]


def matmul(out: Any, x: Any, y: Any) -> Counts:
    """2 m n k, and as much for either argument."""
    n = 2 * out.size * x.shape[-1]
    return n, (n, n)


def linear(out: Any, x: Any, weight: Any, bias: Any, residual: Any) -> Counts:
    n = 2 * out.size * x.shape[-1]
    added = out.size * ((bias is not None) + (residual is not None))
    return n + added, (n, n, out.size, 0)


def einsum(out: Any, inputs: Sequence[Any], subscripts: str) -> Counts:
    """One product per further operand and one addition, over all letters; so too for each argument."""
    terms = subscripts.partition("->")[0].split(",")
    lengths = {
        c: n for term, x in zip(terms, inputs, strict=True) for c, n in zip(term, x.shape, strict=True)
    }
    n = len(inputs) * math.prod(lengths.values())
    return n, (n,) * len(inputs)


def attention(
    out: Any, q: Any, k: Any, v: Any, causal: bool = True, scale: float | None = None, offset: int = 0
) -> Counts:
    """Per pair of query and key: q k and the weighted v; backward makes q k again and four products more
    (Dao 2023, FlashAttention-2); the scale, and what softmax needs."""
    (batch, heads, queries, d), keys, dv = q.shape, k.shape[2], v.shape[-1]
    pairs = sum(min(i + offset + 1, keys) for i in range(queries)) if causal else queries * keys
    pairs *= batch * heads
    soft, back = PER_ELEMENT["softmax"]
    return pairs * (2 * d + 2 * dv + 1 + soft), (pairs * (6 * d + 4 * dv + 1 + back),)


def packed_attention(out: Any, qkv: Any, heads: int, causal: bool) -> Counts:
    batch, positions, width = qkv.shape
    one = qkv[..., : width // 3].reshape(batch, positions, heads, -1).swapaxes(1, 2)
    return attention(out, one, one, one, causal)


PRODUCTS: dict[str, Callable[..., Counts]] = {
    f.__name__: f for f in (matmul, linear, einsum, attention, packed_attention)
}


def count(name: str, out: Any, values: Sequence[Any]) -> Counts:
    """FLOPs of an operation of the table.

    Args:
        name: as the row is called.
        out: the result, an array.
        values: the arguments, arrays, then attributes.

    Returns:
        Forward, and backward for each argument (a joint rule: the sum is that of all).
    """
    if name in PRODUCTS:
        return PRODUCTS[name](out, *values)
    forward, *backward = PER_ELEMENT.get(name, (0, 0, 0, 0))
    n = out.size if name in PICKS else max([out.size, *(x.size for x in values if hasattr(x, "nbytes"))])
    return forward * n, [b * n for b in backward]


# Of their first argument these read only what they pick.
PICKS = {"take", "take_along_axis", "embedding", "getitem"}
