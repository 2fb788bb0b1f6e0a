"""The fused operations in plain NumPy: what each of them computes, forward and backward.

These functions are the specification of fused.c, its fallback without a compiler, and its test oracle. Arrays
have any leading shape; an operation works on the last axis. `g` is the gradient by the output.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlsys_lab.autograd.attention_rule import attention_gradients
from mlsys_lab.autograd.network import gelu, gelu_rule, gelu_tanh, gelu_tanh_rule

Array = Any  # a NumPy array, or another library's that NumPy's functions accept


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """Matrix product (..., m, k), (..., k, n) -> (..., m, n), as np.matmul."""
    return np.matmul(a, b) if out is None else np.matmul(a, b, out=out)


def column_sum(g: Array) -> Array:
    """Sum over all axes but the last: the gradient of a bias. (..., n) -> (n)."""
    return g.reshape(-1, g.shape[-1]).sum(0)


def add_bias(x: Array, bias: Array, residual: Array | None = None, out: Array | None = None) -> Array:
    """x + bias (+ residual), into `out` if given, which may be x. (..., n), (n), (..., n) -> (..., n)."""
    out = np.add(x, bias, out=out)
    return out if residual is None else np.add(out, residual, out=out)


def bias_relu(x: Array, bias: Array) -> Array:
    """max(x + bias, 0). (..., n), (n) -> (..., n)."""
    return np.maximum(x + bias, 0)


def bias_relu_backward(g: Array, out: Array) -> tuple[Array, Array]:
    """Gradients by x and bias; `out` is what the forward pass gave."""
    dx = np.where(out <= 0, np.zeros_like(g), g)
    return dx, column_sum(dx)


def bias_gelu(x: Array, bias: Array, approximate: str = "none") -> Array:
    """GELU of x + bias, exact ("none", z Phi(z)) or by tanh ("tanh"). (..., n), (n) -> (..., n)."""
    return (gelu_tanh if approximate == "tanh" else gelu)(x + bias)


def bias_gelu_backward(g: Array, x: Array, bias: Array, approximate: str = "none") -> tuple[Array, Array]:
    """Gradients by x and bias. Nothing is saved: the inputs say it all."""
    dx = (gelu_tanh_rule if approximate == "tanh" else gelu_rule)(g, x + bias)
    return dx, column_sum(dx)


def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """(x - mean) rstd weight + bias over the last axis (Ba et al. 2016).

    Returns:
        out (..., n), and for backward mean (...) and rstd (...), one over the standard deviation.
    """
    mean = x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + x.dtype.type(eps))
    return (x - mean) * rstd * weight + bias, mean[..., 0], rstd[..., 0]


def layer_norm_backward(
    g: Array, x: Array, weight: Array, mean: Array, rstd: Array
) -> tuple[Array, Array, Array]:
    """Gradients by x, weight and bias."""
    r = rstd[..., None]
    normed = (x - mean[..., None]) * r
    h = g * weight
    dx = r * (h - h.mean(-1, keepdims=True) - normed * (h * normed).mean(-1, keepdims=True))
    return dx, column_sum(g * normed), column_sum(g)


def rms_norm(x: Array, weight: Array, eps: float = 1e-5) -> tuple[Array, Array]:
    """x rstd weight, rstd = 1 / sqrt(mean(x^2) + eps) (Zhang and Sennrich 2019): out (..., n), rstd (...)."""
    rstd = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + x.dtype.type(eps))
    return x * rstd * weight, rstd[..., 0]


def rms_norm_backward(g: Array, x: Array, weight: Array, rstd: Array) -> tuple[Array, Array]:
    """Gradients by x and weight."""
    r = rstd[..., None]
    normed = x * r
    h = g * weight
    return r * (h - normed * (h * normed).mean(-1, keepdims=True)), column_sum(g * normed)


def cross_entropy(
    logits: Array, target: Array, reduction: str = "mean", ignore_index: int = -100
) -> tuple[Array, Array]:
    """Cross-entropy of softmax(logits) with integer classes, and its gradient, which is softmax - one hot.

    Args:
        logits: (..., classes).
        target: (...) integers; `ignore_index` marks rows that do not count.
        reduction: "mean" over the rows that count, "sum", or "none".
        ignore_index: as torch's.

    Returns:
        The loss, () or (...) for "none", and its gradient by the logits, (..., classes).

    Raises:
        IndexError: a target that is no class.
    """
    counted, scale = check_targets(logits, target, reduction, ignore_index)
    top = logits.max(-1, keepdims=True) if logits.size else logits.sum(-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is the answer
        e = np.exp(logits - top)
        total = e.sum(-1, keepdims=True)
        safe = np.where(counted, target, 0)[..., None]
        picked = np.take_along_axis(logits, safe, -1) if logits.size else top
        loss = np.where(counted, (np.log(total) + (top - picked))[..., 0], 0).astype(logits.dtype)
        gradient = np.where(counted[..., None], e / total, 0).astype(logits.dtype)
    if logits.size:
        here = np.take_along_axis(gradient, safe, -1)
        np.put_along_axis(gradient, safe, here - counted[..., None], -1)
    gradient *= logits.dtype.type(scale)
    return reduced(loss, reduction, scale), gradient


def check_targets(logits: Array, target: Array, reduction: str, ignore_index: int) -> tuple[Array, float]:
    """Which rows count, and what one row weighs in the loss; raises where something does not fit."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction is "mean", "sum" or "none", got {reduction!r}')
    if target.shape != logits.shape[:-1]:
        raise ValueError(
            f"one target per row: logits {logits.shape} need {logits.shape[:-1]}, got {target.shape}"
        )
    counted = target != ignore_index
    classes = logits.shape[-1]
    wrong = counted & ((target < 0) | (target >= classes))
    if wrong.any():
        raise IndexError(f"target {int(target[wrong][0])} is out of bounds for {classes} classes")
    count = int(counted.sum())
    return counted, ((1 / count if count else math.nan) if reduction == "mean" else 1.0)


def reduced(loss: Array, reduction: str, scale: float) -> Array:
    """The rows' losses as the caller wants them."""
    return loss if reduction == "none" else loss.sum() * loss.dtype.type(scale)


def attention(
    q: Array, k: Array, v: Array, causal: bool = True, scale: float | None = None, offset: int = 0
) -> tuple[Array, Array]:
    """softmax(scale q k^T) v per head (Vaswani et al. 2017, section 3.2.1).

    Args:
        q: (batch, heads, queries, d).
        k: (batch, kv_heads, keys, d); heads is a multiple, and neighbours share (Ainslie et al. 2023).
        v: (batch, kv_heads, keys, d_v).
        causal: query i sees the keys up to i + offset.
        scale: 1 / sqrt(d) unless given.
        offset: how many keys came before the first query (a KV cache).

    Returns:
        out (batch, heads, queries, d_v), and log_sum (batch, heads, queries), from which backward makes the
        weights again instead of keeping them (Dao et al. 2022, section 3.1).
    """
    check_attention(q, k, v, offset)
    scores = _scores(q, k, causal, scale, offset)
    top = scores.max(-1, keepdims=True)
    e = np.exp(scores - top)
    total = e.sum(-1, keepdims=True)
    out = ((e / total) @ v[:, :, None]).reshape(*q.shape[:3], v.shape[-1])
    return out, (top + np.log(total)).reshape(q.shape[:3])


def attention_backward(
    g: Array, q: Array, k: Array, v: Array, out: Array, log_sum: Array,
    causal: bool = True, scale: float | None = None, offset: int = 0,
    out_gradients: tuple[Array, Array, Array] | None = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Gradients by q, k and v, into `out_gradients` if given; C reads forward's `out`, `log_sum`."""
    made = attention_gradients(g, q, k, v, causal, scale, offset)
    if out_gradients is None:
        return made
    for target, gradient in zip(out_gradients, made, strict=True):
        target[...] = gradient
    return out_gradients


def check_attention(q: Array, k: Array, v: Array, offset: int) -> None:
    """Raise ValueError where the shapes do not fit or the offset is negative."""
    fits = (
        q.ndim == k.ndim == v.ndim == 4
        and (k.shape[0], k.shape[3]) == (q.shape[0], q.shape[3])
        and v.shape[:3] == k.shape[:3]
        and q.shape[1] % k.shape[1] == 0
    )
    if not fits:
        raise ValueError(
            "attention takes q (batch, heads, queries, d), k (batch, kv_heads, keys, d), v (batch, kv_heads, "
            f"keys, d_v) with heads a multiple of kv_heads, got {q.shape}, {k.shape}, {v.shape}"
        )
    if offset < 0:
        raise ValueError(f"offset counts the keys before the first query, got {offset}")


def _grouped(x: Array, k: Array) -> Array:
    """(batch, heads, ...) -> (batch, kv_heads, heads that share them, ...)."""
    return x.reshape(x.shape[0], k.shape[1], x.shape[1] // k.shape[1], *x.shape[2:])


def _scale(q: Array, scale: float | None) -> Any:
    return q.dtype.type(q.shape[-1] ** -0.5 if scale is None else scale)


def _scores(q: Array, k: Array, causal: bool, scale: float | None, offset: int) -> Array:
    scores = _grouped(q, k) @ k[:, :, None].swapaxes(-1, -2) * _scale(q, scale)
    if not causal:
        return scores
    seen = np.arange(k.shape[2]) <= np.arange(q.shape[2])[:, None] + offset
    return np.where(seen, scores, scores.dtype.type(-np.inf))


def scatter_add_rows(table: Array, index: Array, g: Array) -> None:
    """table[index[i]] += g[i], in place: the gradient of an embedding. (rows, n), (...), (..., n)."""
    np.add.at(table, index.reshape(-1), g.reshape(-1, table.shape[-1]))


def sgd_step(
    p: Array, g: Array, velocity: Array | None, *, lr: float, momentum: float = 0.0, dampening: float = 0.0,
    weight_decay: float = 0.0, nesterov: bool = False, first: bool = False,
) -> None:  # fmt: skip
    """One step of torch.optim.SGD in place on p and velocity, flat (n,). `first`: velocity starts here."""
    d = g + weight_decay * p
    if velocity is not None:
        velocity[...] = d if first else momentum * velocity + (1 - dampening) * d
        d = d + momentum * velocity if nesterov else velocity
    p -= lr * d


def adam_step(
    p: Array, g: Array, m: Array, v: Array, *, step: int, lr: float,
    betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
    weight_decay: float = 0.0, decoupled: bool = False,
) -> None:  # fmt: skip
    """One step of Adam (Kingma and Ba 2015, algorithm 1), or AdamW if decoupled, in place on p, m and v.

    All are flat (n,); `step` counts from 1.
    """
    if decoupled:
        p *= 1 - lr * weight_decay
    elif weight_decay:
        g = g + weight_decay * p
    m += (1 - betas[0]) * (g - m)
    v *= betas[1]
    v += (1 - betas[1]) * g * g
    p -= lr / (1 - betas[0] ** step) * m / (np.sqrt(v) / math.sqrt(1 - betas[1] ** step) + eps)
