"""Operations as users call them: names and signatures of the Python array API standard, 2024.12.

Those that are rows of the table are taken from there; those with optional arguments, or composed of rows,
are here. An operation on arrays alone gives an array; one tensor among the arguments makes the result a
tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlsys_lab.autograd import network, primitives, shaping
from mlsys_lab.autograd.errors import ShapeError
from mlsys_lab.autograd.primitives import multiply, permute_dims, reshape, sqrt, square
from mlsys_lab.autograd.shaping import argsort as argsort_row
from mlsys_lab.autograd.shaping import concat as concat_row
from mlsys_lab.autograd.shaping import einsum as einsum_row
from mlsys_lab.autograd.shaping import getitem, take_along_axis
from mlsys_lab.autograd.tensor import Tensor

builtin_max = max


def sum(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    """Sum over one axis, several, or all; the narrow floats are added in float32."""
    return primitives.sum_(x, axis, keepdims)


def mean(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    """Mean over one axis, several, or all."""
    return primitives.mean(x, axis, keepdims)


def max(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    """Largest element; where several are, they share the gradient evenly."""
    return primitives.max_(x, axis, keepdims)


def min(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    """Smallest element; where several are, they share the gradient evenly."""
    return primitives.min_(x, axis, keepdims)


def argmax(x: Any, *, axis: int | None = None, keepdims: bool = False) -> Any:
    """Index of the first largest element."""
    return primitives.argmax(x, axis, keepdims)


def argmin(x: Any, *, axis: int | None = None, keepdims: bool = False) -> Any:
    """Index of the first smallest element."""
    return primitives.argmin(x, axis, keepdims)


def prod(x: Any, *, axis: int | None = None, keepdims: bool = False) -> Any:
    """Product over an axis or all, by halves, so that the gradient is right where elements are zero."""
    shape = x.shape
    x, where_ = (reshape(x, (-1,)), 0) if axis is None else (x, axis % len(shape))
    if x.shape[where_] == 0:
        return primitives.sum_(x, where_, False) + 1
    before = (slice(None),) * where_
    while (n := x.shape[where_]) > 1:
        left, right = x[(*before, slice(0, n // 2))], x[(*before, slice(n // 2, 2 * (n // 2)))]
        half = multiply(left, right)
        x = concat([half, x[(*before, slice(n - 1, n))]], axis=where_) if n % 2 else half
    return reshape(x, primitives.kept_axes(shape, axis)) if keepdims else x[(*before, 0)]


def var(x: Any, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Mean squared distance from the mean; `correction` is taken off the number of elements."""
    centred = x - primitives.mean(x, axis, True)
    n = primitives.count(x.shape, axis)
    return primitives.sum_(square(centred), axis, keepdims) / builtin_max(n - correction, 0)


def std(x: Any, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Square root of `var`."""
    return sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))


def cumulative_sum(x: Any, *, axis: int = 0) -> Any:
    """Running sum along an axis."""
    return primitives.cumulative_sum(x, axis)


def clip(x: Any, min: float | None = None, max: float | None = None) -> Any:
    """x, held between two numbers."""
    return primitives.clip(x, -math.inf if min is None else min, math.inf if max is None else max)


def expand_dims(x: Any, *, axis: int = 0) -> Any:
    """A new axis of length 1."""
    shape = list(x.shape)
    shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, 1)
    return reshape(x, tuple(shape))


def squeeze(x: Any, axis: Any) -> Any:
    """Without the named axes, each of length 1."""
    axes = {int(a) % len(x.shape) for a in np.atleast_1d(axis)}
    if any(x.shape[a] != 1 for a in axes):
        raise ShapeError(
            f"squeeze expects length 1 along axis {axis}, got shape {x.shape}: name another axis"
        )
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def moveaxis(x: Any, source: int, destination: int) -> Any:
    """One axis put elsewhere, the others in order."""
    n = len(x.shape)
    axes = [i for i in range(n) if i != source % n]
    axes.insert(destination % n, source % n)
    return permute_dims(x, tuple(axes))


def concat(arrays: Sequence[Any], *, axis: int | None = 0) -> Any:
    """Join along an axis; None joins the flattened ones."""
    if axis is None:
        arrays, axis = [reshape(x, (-1,)) for x in arrays], 0
    return concat_row(tuple(arrays), axis)


def stack(arrays: Sequence[Any], *, axis: int = 0) -> Any:
    """Join along a new axis."""
    return concat_row(tuple(expand_dims(x, axis=axis) for x in arrays), axis)


def split(x: Any, sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """Pieces along an axis, as numpy.split: equal ones, or cut before the given indices."""
    n, axis = x.shape[axis], axis % len(x.shape)
    if isinstance(sections, int) and n % sections:
        raise ShapeError(
            f"split expects length {n} to divide into {sections} equal pieces: give the cuts as a list"
        )
    cuts = range(n // sections, n, n // sections) if isinstance(sections, int) else sections
    before = (slice(None),) * axis
    return [getitem(x, (*before, slice(a, b))) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]


def flip(x: Any, *, axis: Any = None) -> Any:
    """Reversed along an axis, several, or all."""
    return primitives.flip(x, axis)


def roll(x: Any, shift: Any, *, axis: Any = None) -> Any:
    """Shifted in a circle."""
    return shaping.roll(x, shift, axis)


def tril(x: Any, *, k: int = 0) -> Any:
    """Zero above the k-th diagonal."""
    return shaping.tril(x, k)


def triu(x: Any, *, k: int = 0) -> Any:
    """Zero below the k-th diagonal."""
    return shaping.triu(x, k)


def pad(x: Any, widths: Any, value: float = 0.0) -> Any:
    """A frame of one value; widths as numpy.pad: one number, or (before, after) per axis."""
    n = len(x.shape)
    return shaping.pad(x, tuple((int(a), int(b)) for a, b in np.broadcast_to(widths, (n, 2))), value)


def take(x: Any, indices: Any, *, axis: int = 0) -> Any:
    """Slices by number along an axis; the indices are integers, an array or a tensor."""
    return shaping.take(
        x, indices if isinstance(indices, Tensor) else np.asarray(indices), axis % len(x.shape)
    )


def argsort(x: Any, *, axis: int = -1, descending: bool = False) -> Any:
    """The order that sorts; equal elements keep theirs."""
    return argsort_row(-x if descending else x, axis)


def sort(x: Any, *, axis: int = -1, descending: bool = False) -> Any:
    """Sorted along an axis; the gradient goes back to where each element came from."""
    return take_along_axis(x, argsort(x, axis=axis, descending=descending), axis)


def topk(x: Any, k: int, axis: int = -1) -> tuple[Any, Any]:
    """The k largest along an axis, largest first, and their indices."""
    axis = axis % len(x.shape)
    order = argsort(x, axis=axis, descending=True)[(*(slice(None),) * axis, slice(0, k))]
    return take_along_axis(x, order, axis), order


def einsum(subscripts: str, *operands: Any) -> Any:
    """Einstein's summation, as numpy.einsum with letters; no letter twice in one operand, no ellipsis."""
    subscripts = subscripts.replace(" ", "")
    terms = subscripts.partition("->")[0]
    if "->" not in subscripts:
        subscripts += "->" + "".join(sorted(c for c in set(terms) - {","} if terms.count(c) == 1))
    if "." in subscripts or any(len(set(t)) < len(t) for t in terms.split(",")):
        raise ShapeError(
            f"einsum expects distinct letters per operand, got {subscripts!r}: write the diagonal apart"
        )
    return einsum_row(operands, subscripts)


def gelu(x: Any, approximate: str = "none") -> Any:
    """Gaussian error linear unit; approximate="tanh" for the form with tanh."""
    return network.gelu_tanh(x) if approximate == "tanh" else network.gelu(x)


def softmax(x: Any, *, axis: int = -1) -> Any:
    """exp(x) divided by its sum along an axis."""
    return network.softmax(x, axis)


def log_softmax(x: Any, *, axis: int = -1) -> Any:
    """Logarithm of `softmax`, without its overflow."""
    return network.log_softmax(x, axis)


def logsumexp(x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    """Logarithm of the sum of exp(x), without overflow."""
    return network.logsumexp(x, axis, keepdims)
