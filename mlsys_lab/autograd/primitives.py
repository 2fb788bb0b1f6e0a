"""The differentiation table: elementwise operations, reductions, the matrix product.

A row is an operation's forward and, per argument, its rule: the gradient for that argument, given g, the
gradient of the result. A rule's parameters name what it reads. The engine sums over broadcast axes and
keeps the dtype.
"""

# mypy: disable-error-code="has-type"
# A rule names rows that stand further down.

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlsys_lab._core.backend import Array, is_float, wide
from mlsys_lab._core.gemm import gemm
from mlsys_lab.autograd.rows import row


def adds_in(x: Array) -> Any:
    """The dtype in which a reduction of x adds; None leaves integers to NumPy."""
    return wide(x.dtype) if is_float(x.dtype) else None


def kept_axes(shape: tuple[int, ...], axis: Any) -> tuple[int, ...]:
    """A shape with length 1 along the reduced axes."""
    axes = range(len(shape)) if axis is None else np.atleast_1d(axis) % max(len(shape), 1)
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def spread(g: Any, shape: tuple[int, ...], axis: Any) -> Any:
    """Repeat the gradient of a reduction over the axes that it removed."""
    return broadcast_to(reshape(g, kept_axes(shape, axis)), shape)


def count(shape: tuple[int, ...], axis: Any) -> int:
    """How many elements each result of a reduction was made of."""
    return math.prod(n for n, one in zip(shape, kept_axes(shape, axis), strict=True) if one != n)


# Shapes. `kept` is the shape of the argument.
reshape = row(
    "reshape", lambda x, shape: (x.reshape(shape), x.shape), lambda g, kept: reshape(g, kept), keeps=True
)
broadcast_to = row("broadcast_to", lambda x, shape: np.broadcast_to(x, shape), lambda g: g)  # the engine sums
permute_dims = row(
    "permute_dims",
    lambda x, axes: np.transpose(x, axes),
    lambda g, axes: permute_dims(g, tuple(int(i) for i in np.argsort(axes))),
)
matrix_transpose = row("matrix_transpose", lambda x: x.swapaxes(-1, -2), lambda g: matrix_transpose(g))
astype = row(
    "astype",
    lambda x, dtype: (x.astype(dtype), x.dtype),
    lambda g, kept: astype(g, kept),
    keeps=True,
    same=False,
)

# Comparisons and steps: nothing flows.
less, less_equal, greater, greater_equal, equal, not_equal = (
    row(f.__name__, f, same=False)
    for f in (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal)
)
logical_and, logical_or, logical_not, isnan, isfinite = (
    row(f.__name__, f, same=False)
    for f in (np.logical_and, np.logical_or, np.logical_not, np.isnan, np.isfinite)
)
sign, floor, ceil, round_ = (row(f.__name__, f) for f in (np.sign, np.floor, np.ceil, np.rint))
argmax = row("argmax", lambda x, axis, keepdims: np.argmax(x, axis=axis, keepdims=keepdims), same=False)
argmin = row("argmin", lambda x, axis, keepdims: np.argmin(x, axis=axis, keepdims=keepdims), same=False)

# Arithmetic.
add = row("add", np.add, lambda g: g, lambda g: g)
subtract = row("subtract", np.subtract, lambda g: g, lambda g: -g)
multiply = row("multiply", np.multiply, lambda g, y: g * y, lambda g, x: g * x)
divide = row("divide", np.divide, lambda g, y: g / y, lambda g, out, y: -g * out / y)
negative = row("negative", np.negative, lambda g: -g)
abs_ = row("abs", np.absolute, lambda g, x: g * sign(x))
where = row(
    "where",
    lambda condition, x, y: np.where(condition, x, y),
    None,
    lambda g, condition: where(condition, g, 0.0),
    lambda g, condition: where(condition, 0.0, g),
)
# At a tie each gets half, as in torch.
maximum = row(
    "maximum",
    np.maximum,
    lambda g, x, y: where(x == y, g * 0.5, where(x > y, g, 0.0)),
    lambda g, x, y: where(x == y, g * 0.5, where(x < y, g, 0.0)),
)
minimum = row(
    "minimum",
    np.minimum,
    lambda g, x, y: where(x == y, g * 0.5, where(x < y, g, 0.0)),
    lambda g, x, y: where(x == y, g * 0.5, where(x > y, g, 0.0)),
)
clip = row(
    "clip", lambda x, low, high: np.clip(x, low, high), lambda g, x, low, high: g * (x >= low) * (x <= high)
)

# Powers. NumPy's generic pow takes ten times a product; small whole powers are products.
SMALL: dict[float, Any] = {
    1: np.positive,
    2: np.square,
    3: lambda x: x * x * x,
    0.5: np.sqrt,
    -1: np.reciprocal,
}


def power(x: Array, y: Any) -> Array:
    short = SMALL.get(float(y)) if not np.shape(y) and is_float(x.dtype) else None
    return np.power(x, y) if short is None else short(x)


def power_rule(g: Any, x: Any, y: Any) -> Any:
    """y x**(y - 1), and zero where y is, also at x = 0."""
    if not np.shape(y) and not hasattr(y, "node"):
        return g * (y * pow_(x, y - 1)) if y else g * 0
    return where(y == 0, 0.0, g * y * pow_(x, where(y == 0, 1.0, y - 1)))


pow_ = row(
    "pow",
    power,
    power_rule,
    lambda g, out, x, y: where((x == 0) * (y >= 0), 0.0, g * out * log(where(x == 0, 1.0, x))),
)
square = row("square", np.square, lambda g, x: 2 * g * x)
sqrt = row("sqrt", np.sqrt, lambda g, out: g / (2 * out))
exp = row("exp", np.exp, lambda g, out: g * out)
expm1 = row("expm1", np.expm1, lambda g, out: g * (out + 1))
log = row("log", np.log, lambda g, x: g / x)
log2 = row("log2", np.log2, lambda g, x: g / (x * math.log(2)))
log1p = row("log1p", np.log1p, lambda g, x: g / (1 + x))
logaddexp = row(
    "logaddexp", np.logaddexp, lambda g, out, x: g * exp(x - out), lambda g, out, y: g * exp(y - out)
)

# Trigonometry.
sin = row("sin", np.sin, lambda g, x: g * cos(x))
cos = row("cos", np.cos, lambda g, x: -g * sin(x))
tan = row("tan", np.tan, lambda g, out: g * (1 + out * out))
asin = row("asin", np.arcsin, lambda g, x: g / sqrt(1 - x * x))
acos = row("acos", np.arccos, lambda g, x: -g / sqrt(1 - x * x))
atan = row("atan", np.arctan, lambda g, x: g / (1 + x * x))
sinh = row("sinh", np.sinh, lambda g, x: g * cosh(x))
cosh = row("cosh", np.cosh, lambda g, x: g * sinh(x))
tanh = row("tanh", np.tanh, lambda g, out: g - g * (out * out))

# Reductions. A maximum that is reached several times shares its gradient evenly, as torch.amax does.
sum_ = row(
    "sum",
    lambda x, axis, keepdims: (x.sum(axis=axis, keepdims=keepdims, dtype=adds_in(x)), x.shape),
    lambda g, kept, axis: spread(g, kept, axis),
    keeps=True,
)
mean = row(
    "mean",
    lambda x, axis, keepdims: (x.mean(axis=axis, keepdims=keepdims, dtype=adds_in(x)), x.shape),
    lambda g, kept, axis: spread(g / count(kept, axis), kept, axis),
    keeps=True,
)


def share(g: Any, out: Any, x: Any, axis: Any) -> Any:
    """The gradient of max or min: to each element that reached it, in equal parts."""
    hit = astype(x == reshape(out, kept_axes(x.shape, axis)), x.dtype)
    return hit * spread(g, x.shape, axis) / sum_(hit, axis, True)


max_ = row("max", lambda x, axis, keepdims: np.max(x, axis=axis, keepdims=keepdims), share)
min_ = row("min", lambda x, axis, keepdims: np.min(x, axis=axis, keepdims=keepdims), share)
cumulative_sum = row(
    "cumulative_sum",
    lambda x, axis: np.cumsum(x, axis=axis, dtype=adds_in(x)),
    lambda g, axis: flip(cumulative_sum(flip(g, axis), axis), axis),
)
flip = row("flip", lambda x, axis: np.flip(x, axis), lambda g, axis: flip(g, axis))


# The matrix product, also of vectors and of stacks. `kept`: how many axes each side has.
def product(x: Array, y: Array) -> tuple[Array, tuple[int, int]]:
    if y.ndim == 2 and x.ndim > 2:  # one large product in place of many small ones
        return gemm(x.reshape(-1, x.shape[-1]), y).reshape(*x.shape[:-1], y.shape[-1]), (x.ndim, y.ndim)
    return (gemm(x, y) if x.ndim > 1 and y.ndim > 1 else gemm_vector(x, y)), (x.ndim, y.ndim)


def gemm_vector(x: Array, y: Array) -> Array:
    """A product with a vector on at least one side, through the same provider."""
    out = gemm(x[None] if x.ndim == 1 else x, y[:, None] if y.ndim == 1 else y)
    out = out[..., 0] if y.ndim == 1 else out
    return out[..., 0] if x.ndim == y.ndim == 1 else out[..., 0, :] if x.ndim == 1 else out


def to_left(g: Any, y: Any, kept: tuple[int, int]) -> Any:
    """The gradient of x @ y for x: g yT."""
    if kept[1] == 1:
        return g[..., None] * y
    if kept[0] == 1:
        return matmul(g[..., None, :], matrix_transpose(y))[..., 0, :]
    return matmul(g, matrix_transpose(y))


def to_right(g: Any, x: Any, kept: tuple[int, int]) -> Any:
    """The gradient of x @ y for y: xT g."""
    if kept[1] == 1:
        return g[..., None] * x
    if kept[0] == 1:
        return x[:, None] * g[..., None, :]
    if kept[1] == 2 and kept[0] > 2:
        x, g = reshape(x, (-1, x.shape[-1])), reshape(g, (-1, g.shape[-1]))
    return matmul(matrix_transpose(x), g)


matmul = row("matmul", product, to_left, to_right, keeps=True)
