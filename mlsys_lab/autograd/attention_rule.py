"""The gradient of attention, for arrays and tensors: the NumPy twin's, and a recorded backward's."""

from __future__ import annotations

from typing import Any

from mlsys_lab._core.backend import namespace
from mlsys_lab.autograd.network import softmax
from mlsys_lab.autograd.primitives import matmul, matrix_transpose, reshape, sum_, where


def attention_gradients(
    g: Any, q: Any, k: Any, v: Any, causal: bool, scale: float | None, offset: int
) -> tuple[Any, ...]:
    """Gradients by q, k and v, in operations that take arrays and tensors alike."""
    (batch, heads, queries, d), (_, shared, keys, _) = q.shape, k.shape
    scale = d**-0.5 if scale is None else scale
    gg, qg = (
        reshape(x, (batch, shared, heads // shared, queries, x.shape[-1])) for x in (g, q)
    )  # (B, kv_heads, heads that share, T, d)
    kg, vg = (reshape(x, (batch, shared, 1, keys, x.shape[-1])) for x in (k, v))
    scores = matmul(qg, matrix_transpose(kg)) * scale
    if causal:
        xp = namespace(q.data if hasattr(q, "node") else q)
        seen = xp.arange(keys) <= xp.arange(queries)[:, None] + offset
        scores = where(seen, scores, float("-inf"))
    weights = softmax(scores, -1)
    slopes = matmul(gg, matrix_transpose(vg))
    slopes = weights * (slopes - sum_(slopes * weights, -1, True)) * scale
    dk, dv = (sum_(matmul(matrix_transpose(w), x), 2, False) for w, x in ((slopes, qg), (weights, gg)))
    return reshape(matmul(slopes, kg), q.shape), dk, dv
