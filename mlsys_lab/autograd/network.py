"""Rows that networks are made of: activations, softmax; and what is composed of them: convolution, pooling.

Convolution is windows times a matrix (Chellapilla et al. 2006), so its gradient is that of the two.
"""

# mypy: disable-error-code="has-type"
# A rule names rows that stand further down.

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlsys_lab._core.backend import Array, wide
from mlsys_lab._core.special import error_function
from mlsys_lab.autograd.errors import ShapeError
from mlsys_lab.autograd.primitives import argmax, exp, kept_axes, matmul, mean, reshape, spread, sum_, tanh
from mlsys_lab.autograd.rows import row
from mlsys_lab.autograd.shaping import pad, take_along_axis, windows

erf = row("erf", error_function, lambda g, x: g * exp(-x * x) * (2 / math.sqrt(math.pi)))
relu = row("relu", lambda x: np.maximum(x, 0), lambda g, out: g * (out > 0))
sigmoid = row("sigmoid", lambda x: 0.5 * np.tanh(0.5 * x) + 0.5, lambda g, out: g * out * (1 - out))
silu = row("silu", lambda x: x * sigmoid(x), lambda g, x: silu_rule(g, x))
softplus = row("softplus", lambda x: np.logaddexp(x, x.dtype.type(0)), lambda g, x: g * sigmoid(x))


def silu_rule(g: Any, x: Any) -> Any:
    s = sigmoid(x)
    return g * s * (1 + x * (1 - s))


# Hendrycks and Gimpel, Gaussian error linear units (2016): x times the normal distribution function.
ROOT, SLOPE = math.sqrt(2 / math.pi), 0.044715
gelu = row("gelu", lambda x: 0.5 * x * (1 + error_function(x * math.sqrt(0.5))), lambda g, x: gelu_rule(g, x))
gelu_tanh = row(
    "gelu_tanh",
    lambda x: 0.5 * x * (1 + np.tanh(ROOT * (x + SLOPE * x * x * x))),
    lambda g, x: gelu_tanh_rule(g, x),
)


def gelu_rule(g: Any, x: Any) -> Any:
    return g * (0.5 * (1 + erf(x * math.sqrt(0.5))) + x * exp(-0.5 * x * x) * (0.5 * ROOT))


def gelu_tanh_rule(g: Any, x: Any) -> Any:
    t = tanh(ROOT * (x + SLOPE * (x * x * x)))
    return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (ROOT * (1 + 3 * SLOPE * x * x)))


def shifted(x: Array, axis: Any) -> tuple[Array, Array]:
    """x, in a dtype that can be added, without its maximum; and the maximum."""
    x = x.astype(wide(x.dtype), copy=False)
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, top.dtype.type(0))
    return x - top, top


def soften(x: Array, axis: int) -> Array:
    e, _ = shifted(x, axis)
    np.exp(e, out=e)
    e /= e.sum(axis=axis, keepdims=True)
    return e


def log_soften(x: Array, axis: int) -> Array:
    e, _ = shifted(x, axis)
    e -= np.log(np.exp(e).sum(axis=axis, keepdims=True))
    return e


def log_sum(x: Array, axis: Any, keepdims: bool) -> Array:
    e, top = shifted(x, axis)
    out = np.log(np.exp(e).sum(axis=axis, keepdims=True)) + top
    return out if keepdims else np.squeeze(out, axis)


softmax = row("softmax", soften, lambda g, out, axis: softmax_rule(g, out, axis))
log_softmax = row("log_softmax", log_soften, lambda g, out, axis: g - exp(out) * sum_(g, axis, True))
logsumexp = row(
    "logsumexp",
    log_sum,
    lambda g, out, x, axis: spread(g, x.shape, axis) * exp(x - reshape(out, kept_axes(x.shape, axis))),
)


def softmax_rule(g: Any, out: Any, axis: int) -> Any:
    weighted = g * out
    return weighted - out * sum_(weighted, axis, True)


def pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def framed(x: Any, padding: Any, value: float) -> Any:
    """Images (N, C, H, W) with a frame of one value."""
    ph, pw = pair(padding)
    return pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), value) if ph or pw else x


def conv2d(
    x: Any, weight: Any, bias: Any = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> Any:  # fmt: skip
    """Two-dimensional cross-correlation, as torch.nn.functional.conv2d.

    Args:
        x: (N, C, H, W).
        weight: (O, C / groups, kh, kw).
        bias: (O,) or None.
        stride, padding, dilation: elements, one number or (height, width).
        groups: into how many independent groups the channels fall.

    Returns:
        (N, O, Ho, Wo).
    """
    n, c = x.shape[:2]
    o, per_group, kh, kw = weight.shape
    if per_group * groups != c or o % groups:
        raise ShapeError(
            f"conv2d with {groups} groups expects weight (O, {c // groups}, kh, kw) for x {x.shape}, "
            f"got {weight.shape}: change groups, or one of the shapes"
        )
    patches = windows(framed(x, padding, 0.0), (kh, kw), pair(stride), pair(dilation))
    high, wide_ = patches.shape[-2:]
    columns = reshape(patches, (n, groups, per_group * kh * kw, high * wide_))
    out = reshape(matmul(reshape(weight, (groups, o // groups, -1)), columns), (n, o, high, wide_))
    return out if bias is None else out + reshape(bias, (1, o, 1, 1))


def pooled(x: Any, kernel_size: Any, stride: Any, padding: Any, value: float) -> Any:
    """The elements under each window: (N, C, H, W) -> (N, C, kh * kw, Ho, Wo)."""
    size = pair(kernel_size)
    patches = windows(framed(x, padding, value), size, pair(size if stride is None else stride), (1, 1))
    return reshape(patches, (*x.shape[:2], size[0] * size[1], *patches.shape[-2:]))


def max_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Any:
    """The largest element under each window; where several are, the first has the gradient, as in torch."""
    elements = pooled(x, kernel_size, stride, padding, -math.inf)
    return take_along_axis(elements, argmax(elements, 2, True), 2)[:, :, 0]


def avg_pool2d(x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Any:
    """The mean under each window, frame included."""
    return mean(pooled(x, kernel_size, stride, padding, 0.0), 2, False)
