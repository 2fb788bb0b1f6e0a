"""Functions with torch.nn.functional's names and signatures, and mixed precision for them: `autocast`.

Inside `autocast(dtype)` linear layers and convolutions run in that dtype, attention, norms and losses in
float32; parameters stay as they are (Micikevicius et al. 2018).
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from mlsys_lab import autograd as ag
from mlsys_lab._core.backend import NARROW, is_float
from mlsys_lab.nn.init import Generator, drawn_from

relu, silu, sigmoid, softplus, tanh = ag.relu, ag.silu, ag.sigmoid, ag.softplus, ag.tanh
gelu, max_pool2d, avg_pool2d = ag.gelu, ag.max_pool2d, ag.avg_pool2d


class Precision(threading.local):
    """The dtype of products in this thread, or None."""

    dtype: Any = None


precision = Precision()


class autocast:
    """With this, linear layers and convolutions compute in `dtype`: bfloat16 or float16."""

    def __init__(self, dtype: Any = ag.bfloat16, enabled: bool = True) -> None:
        self.dtype = np.dtype(dtype) if enabled else None
        if enabled and not is_float(self.dtype):
            raise ValueError(f"autocast expects bfloat16 or float16, got {self.dtype}: name one of the two")

    def __enter__(self) -> None:
        self.before, precision.dtype = precision.dtype, self.dtype

    def __exit__(self, *error: Any) -> None:
        precision.dtype = self.before


def narrowed(*xs: Any) -> tuple[Any, ...]:
    """Tensors in the dtype of products."""
    low = precision.dtype
    return xs if low is None else tuple([x if x is None or x.dtype == low else x.astype(low) for x in xs])


def widened(x: Any) -> Any:
    """A tensor in float32 where autocast narrowed it."""
    return x if precision.dtype is None or x.dtype not in NARROW else x.astype(np.float32)


def linear(input: Any, weight: Any, bias: Any = None, residual: Any = None) -> Any:
    """(..., in), (out, in), (out), and (..., out) that is added -> (..., out)."""
    if input.shape[-1] != weight.shape[1]:
        raise ag.ShapeError(
            f"linear expects (..., {weight.shape[1]}) for weight {weight.shape}, got {input.shape}: "
            f"make the layer with in_features={input.shape[-1]}, or reshape or transpose the input"
        )
    if precision.dtype is None:
        return ag.linear(input, weight, bias, residual)
    out = ag.linear(*narrowed(input, weight, bias))
    return out if residual is None else residual + out.astype(residual.dtype)


def conv2d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
           groups: int = 1) -> Any:  # fmt: skip
    """(N, C, H, W), (O, C / groups, kh, kw), (O) -> (N, O, Ho, Wo)."""
    x, w, b = narrowed(input, weight, bias)
    return ag.conv2d(x, w, b, stride, padding, dilation, groups)


def embedding(input: Any, weight: Any) -> Any:
    """Integers (...), a table (entries, width) -> (..., width)."""
    try:
        return ag.embedding(input, weight)
    except IndexError as error:
        largest = np.max(np.asarray(input))
        raise IndexError(
            f"embedding expects indices below {weight.shape[0]} for weight {weight.shape}, got {largest}: "
            "make the table as large as the vocabulary"
        ) from error


def softmax(input: Any, dim: int = -1) -> Any:
    return ag.softmax(widened(input), axis=dim)


def log_softmax(input: Any, dim: int = -1) -> Any:
    return ag.log_softmax(widened(input), axis=dim)


def layer_norm(input: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float = 1e-5) -> Any:
    """Over the last axis: (..., n), n, (n), (n) -> (..., n)."""
    return ag.layer_norm(widened(input), weight, bias, eps)


def rms_norm(input: Any, normalized_shape: Any, weight: Any, eps: float = 1e-5) -> Any:
    """Over the last axis: (..., n), n, (n) -> (..., n)."""
    return ag.rms_norm(widened(input), weight, eps)


def probability(p: float) -> float:
    """p itself, if it is one."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout expects a probability in [0, 1], got {p}: give one, such as 0.1")
    return p


def dropout(input: Any, p: float = 0.5, training: bool = True, generator: Generator | None = None) -> Any:
    """Each element is zero with probability p, the others are divided by 1 - p."""
    if probability(p) == 0 or not training:
        return input
    kept = drawn_from(generator).random(input.shape, np.float32) >= p
    return input * (kept / np.float32(1 - p if p < 1 else 1)).astype(input.dtype)


def scaled_dot_product_attention(
    query: Any, key: Any, value: Any, *, is_causal: bool = False, scale: float | None = None
) -> Any:
    """(B, H, T, d), (B, KV, S, d), (B, KV, S, dv) -> (B, H, T, dv); H / KV neighbouring heads share."""
    return ag.attention(*map(widened, (query, key, value)), causal=is_causal, scale=scale)


def alike(input: Any, target: Any) -> Any:
    """The target, if it has the input's shape: a loss of two that broadcast is a mean over all pairs."""
    if (wanted := np.shape(input)) != np.shape(target):
        raise ag.ShapeError(f"the target has the input's shape {wanted}, got {np.shape(target)}: reshape it")
    return target


def reduced(loss: Any, reduction: str) -> Any:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction expects "mean", "sum" or "none", got {reduction!r}: name one of them')
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


def cross_entropy(input: Any, target: Any, ignore_index: int = -100, reduction: str = "mean") -> Any:
    """Logits (N, C, ...) and classes (N, ...) -> one number, or (N, ...) for "none"."""
    logits = input if input.ndim < 3 else ag.moveaxis(input, 1, -1)
    return ag.cross_entropy(widened(logits), target, reduction=reduction, ignore_index=ignore_index)


def nll_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Log-probabilities (N, C) and classes (N)."""
    return reduced(-widened(input)[np.arange(len(target)), target], reduction)


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    return reduced(ag.square(widened(input) - alike(input, target)), reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    return reduced(ag.abs(widened(input) - alike(input, target)), reduction)


def binary_cross_entropy_with_logits(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Logits and probabilities of one shape; no overflow."""
    logits = widened(input)
    return reduced(ag.softplus(logits) - logits * alike(input, target), reduction)
