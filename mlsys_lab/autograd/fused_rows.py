"""The fused operations as rows of the differentiation table: `linear`, `layer_norm`, `attention` and more.

A rule is one fused call on arrays. Where backward itself is recorded (grad of grad) the gradient is a tensor,
and the same derivative is written out in the table's operations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlsys_lab._core.backend import Array, namespace
from mlsys_lab.autograd import _fused_numpy, fused
from mlsys_lab.autograd._fused_numpy import check_targets
from mlsys_lab.autograd.attention_rule import attention_gradients
from mlsys_lab.autograd.errors import DtypeError
from mlsys_lab.autograd.functional import stack
from mlsys_lab.autograd.network import gelu_rule, gelu_tanh_rule, softmax
from mlsys_lab.autograd.primitives import matmul, matrix_transpose, mean, permute_dims, product, reshape, sqrt
from mlsys_lab.autograd.rows import row
from mlsys_lab.autograd.shaping import put
from mlsys_lab.autograd.tensor import Tensor


def flat(x: Any) -> Any:
    """All axes but the last as one: (..., n) -> (rows, n)."""
    return x if x.ndim == 2 else reshape(x, (-1, x.shape[-1]))


def over_rows(g: Any) -> Any:
    """The gradient of a vector that was added to every row."""
    return flat(g).sum(axis=0) if isinstance(g, Tensor) else fused.column_sum(g)


# x weightT + bias + residual, as one row: bias and residual are added while the product is in the cache.
def affine(x: Array, weight: Array, bias: Array | None, residual: Array | None) -> Array:
    out = product(x, weight.swapaxes(-1, -2))[0]
    if bias is not None:
        return fused.add_bias(out, bias, residual, out=out)
    return out if residual is None else out + residual


linear_row = row(
    "linear",
    affine,
    lambda g, weight: matmul(g, weight),
    lambda g, x: matmul(matrix_transpose(flat(g)), flat(x)),
    over_rows,
    lambda g: g,
)


def linear(x: Any, weight: Any, bias: Any = None, residual: Any = None) -> Any:
    """x weightT (+ bias) (+ residual).

    Args:
        x: (..., features).
        weight: (out_features, features), as torch lays it out.
        bias: (out_features) or None.
        residual: (..., out_features) or None, added to the result.

    Returns:
        (..., out_features).
    """
    return linear_row(x, weight, bias, residual)


def bias_relu_rule(g: Any, out: Any, x: Any, bias: Any) -> tuple[Any, Any]:
    if isinstance(g, Tensor):
        dx = g * (out > 0)
        return dx, over_rows(dx)
    return fused.bias_relu_backward(g, out)


bias_relu = row("bias_relu", lambda x, bias: fused.bias_relu(x, bias), joint=bias_relu_rule)


def bias_gelu_rule(g: Any, x: Any, bias: Any, approximate: str) -> tuple[Any, Any, None]:
    if isinstance(g, Tensor):
        dx = (gelu_tanh_rule if approximate == "tanh" else gelu_rule)(g, x + bias)
        return dx, over_rows(dx), None
    return (*fused.bias_gelu_backward(g, x, bias, approximate), None)


bias_gelu_row = row(
    "bias_gelu", lambda x, bias, approximate: fused.bias_gelu(x, bias, approximate), joint=bias_gelu_rule
)


def bias_gelu(x: Any, bias: Any, approximate: str = "none") -> Any:
    """GELU of x + bias: (..., n), (n) -> (..., n); `approximate` is "none" (exact) or "tanh"."""
    return bias_gelu_row(x, bias, approximate)


def layer_norm_forward(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Any]:
    out, mean_, rstd = fused.layer_norm(x, weight, bias, eps)
    return out, (mean_, rstd)


def layer_norm_rule(g: Any, x: Any, weight: Any, bias: Any, eps: float, kept: Any) -> tuple[Any, ...]:
    if not isinstance(g, Tensor):
        return (*fused.layer_norm_backward(g, x, weight, *kept), None)
    middle = mean(x, -1, False)
    centred = x - middle[..., None]
    rstd = 1 / sqrt(mean(centred * centred, -1, False) + eps)
    return (*_fused_numpy.layer_norm_backward(g, x, weight, middle, rstd), None)


layer_norm_row = row("layer_norm", layer_norm_forward, joint=layer_norm_rule, keeps=True)


def layer_norm(x: Any, weight: Any, bias: Any, eps: float = 1e-5) -> Any:
    """(x - mean) / sqrt(variance + eps) weight + bias over the last axis: (..., n), (n), (n) -> (..., n)."""
    return layer_norm_row(x, weight, bias, eps)


def rms_norm_rule(g: Any, x: Any, weight: Any, eps: float, kept: Any) -> tuple[Any, ...]:
    if not isinstance(g, Tensor):
        return (*fused.rms_norm_backward(g, x, weight, kept), None)
    rstd = 1 / sqrt(mean(x * x, -1, False) + eps)
    return (*_fused_numpy.rms_norm_backward(g, x, weight, rstd), None)


rms_norm_row = row(
    "rms_norm", lambda x, weight, eps: fused.rms_norm(x, weight, eps), joint=rms_norm_rule, keeps=True
)


def rms_norm(x: Any, weight: Any, eps: float = 1e-5) -> Any:
    """x / sqrt(mean(x^2) + eps) weight over the last axis: (..., n), (n) -> (..., n)."""
    return rms_norm_row(x, weight, eps)


def cross_entropy_rule(
    g: Any, logits: Any, target: Any, reduction: str, ignore_index: int, kept: Any
) -> tuple[Any, ...]:
    if not isinstance(g, Tensor):
        if reduction != "none" and g == 1:
            dx = kept.view()  # a view, so that nobody adds to what a second backward needs
        else:
            dx = kept * (g[..., None] if reduction == "none" else g)
        return dx, None, None, None
    target = target.data if isinstance(target, Tensor) else target
    counted, scale = check_targets(logits.data, target, reduction, ignore_index)
    xp = namespace(target)
    one_hot = (xp.arange(logits.shape[-1]) == target[..., None]).astype(logits.dtype)
    weights = (counted[..., None] * scale).astype(logits.dtype)
    up = reshape(g, (*g.shape, 1)) if reduction == "none" else g
    return up * ((softmax(logits, -1) - one_hot) * weights), None, None, None


cross_entropy_row = row(
    "cross_entropy",
    lambda logits, target, reduction, ignore_index: fused.cross_entropy(
        logits, target, reduction, ignore_index
    ),
    joint=cross_entropy_rule,
    keeps=True,
    same=False,
)


def cross_entropy(logits: Any, target: Any, *, reduction: str = "mean", ignore_index: int = -100) -> Any:
    """Cross-entropy of softmax(logits) with integer classes.

    Args:
        logits: (..., classes).
        target: (...) integers; `ignore_index` marks rows that do not count.
        reduction: "mean" over the rows that count, "sum", or "none".
        ignore_index: as torch's.

    Returns:
        One number, or (...) for "none".
    """
    if target.dtype.kind not in "iu":
        raise DtypeError(f"cross_entropy expects integer classes, got {target.dtype}: .astype('int64') first")
    return cross_entropy_row(logits, target, reduction, ignore_index)


def attention_rule(
    g: Any, out: Any, q: Any, k: Any, v: Any, causal: bool, scale: float | None, offset: int, kept: Any
) -> tuple[Any, ...]:
    if isinstance(g, Tensor):
        return (*attention_gradients(g, q, k, v, causal, scale, offset), None, None, None)
    return (*fused.attention_backward(g, q, k, v, out, kept, causal, scale, offset), None, None, None)


attention_row = row(
    "attention",
    lambda q, k, v, causal, scale, offset: fused.attention(q, k, v, causal, scale, offset),
    joint=attention_rule,
    keeps=True,
)


def attention(
    q: Any, k: Any, v: Any, *, causal: bool = True, scale: float | None = None, offset: int = 0
) -> Any:
    """softmax(scale q kT) v per head.

    Args:
        q: (batch, heads, queries, d).
        k: (batch, kv_heads, keys, d); heads is a multiple of kv_heads, and neighbouring heads share.
        v: (batch, kv_heads, keys, d_v).
        causal: query i sees the keys up to i + offset.
        scale: 1 / sqrt(d) unless given.
        offset: how many keys came before the first query (a KV cache).

    Returns:
        (batch, heads, queries, d_v); transposed to (batch, queries, heads, d_v) it is contiguous.
    """
    return attention_row(q, k, v, causal, scale, offset)


def unpacked(qkv: Any, heads: int) -> Any:
    """(batch, positions, 3 heads d) -> (3, batch, heads, positions, d), a view."""
    batch, positions, width = qkv.shape
    split = reshape(qkv, (batch, positions, 3, heads, width // (3 * heads)))
    return permute_dims(split, (2, 0, 3, 1, 4))


def packed_forward(qkv: Array, heads: int, causal: bool) -> tuple[Array, Any]:
    out, log_sum = fused.attention(*unpacked(qkv, heads), causal)
    return out.transpose(0, 2, 1, 3).reshape(*qkv.shape[:2], -1), log_sum


def packed_rule(g: Any, out: Any, qkv: Any, heads: int, causal: bool, kept: Any) -> tuple[Any, ...]:
    q, k, v = (unpacked(qkv, heads)[i] for i in range(3))
    batch, _, positions, d = q.shape
    g, out = (permute_dims(reshape(x, (batch, positions, heads, d)), (0, 2, 1, 3)) for x in (g, out))
    if isinstance(g, Tensor):
        grads = stack(list(attention_gradients(g, q, k, v, causal, None, 0)), axis=0)
        return reshape(permute_dims(grads, (1, 3, 0, 2, 4)), qkv.shape), None, None
    dqkv = namespace(qkv).empty(qkv.shape, qkv.dtype)
    fused.attention_backward(g, q, k, v, out, kept, causal, out_gradients=tuple(unpacked(dqkv, heads)))
    return dqkv, None, None


packed_row = row("packed_attention", packed_forward, joint=packed_rule, keeps=True)


def packed_attention(qkv: Any, heads: int, *, causal: bool = True) -> Any:
    """Self-attention of queries, keys and values that one product made; their gradient is one array.

    Args:
        qkv: (batch, positions, 3 heads d): all queries, then all keys, then all values.
        heads: how many.
        causal: a position sees those up to itself.

    Returns:
        (batch, positions, heads d).
    """
    return packed_row(qkv, heads, causal)


def embedding_rule(g: Any, weight: Any, indices: Any) -> tuple[Any, None]:
    indices = indices.data if isinstance(indices, Tensor) else indices
    if isinstance(g, Tensor):
        return put(g, indices, weight.shape, 0), None
    table = namespace(g).zeros(weight.shape, g.dtype)
    fused.scatter_add_rows(table, indices % weight.shape[0], g)
    return table, None


embedding_row = row(
    "embedding", lambda weight, indices: np.take(weight, indices, axis=0), joint=embedding_rule, same=False
)


def embedding(indices: Any, weight: Any) -> Any:
    """Rows of a table: indices (...) integers, weight (entries, width) -> (..., width)."""
    return embedding_row(weight, indices)
