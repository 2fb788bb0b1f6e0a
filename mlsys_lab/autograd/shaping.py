"""Rows that move elements: indexing and gathering, joining, padding, windows.

Each of them picks elements of its argument, so its rule puts gradients back where the elements came from
and adds where one was picked twice; the rule of that is to pick again.
"""

# mypy: disable-error-code="has-type"
# A rule names rows that stand further down.

from __future__ import annotations

from typing import Any

import numpy as np

from mlsys_lab._core.backend import Array, is_float, namespace, scatter_add, wide
from mlsys_lab.autograd.primitives import broadcast_to, reshape
from mlsys_lab.autograd.rows import row
from mlsys_lab.autograd.tensor import Tensor


def is_basic(index: Any) -> bool:
    """Whether an index holds no array, so that it names no element twice."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(isinstance(p, (int, np.integer, slice, type(None), type(Ellipsis))) for p in parts)


def plain(index: Any) -> Any:
    """An index with arrays in place of tensors."""
    if isinstance(index, tuple):
        return tuple(plain(p) for p in index)
    return index.data if isinstance(index, Tensor) else index


def placed(g: Array, shape: tuple[int, ...], index: Any) -> Array:
    """Zeros of a shape with g added at an index."""
    out = namespace(g).zeros(shape, dtype=g.dtype)
    index = plain(index)
    if is_basic(index):
        out[index] = g
    else:
        scatter_add(out, index, g)
    return out


def replaced(x: Array, value: Any, index: Any) -> Array:
    """A copy of x with value at an index."""
    out = x.copy()
    out[plain(index)] = value
    return out


getitem = row(
    "getitem",
    lambda x, index: (x[plain(index)], x.shape),
    lambda g, kept, index: place(g, kept, index),
    keeps=True,
    same=False,
)
place = row("place", placed, lambda g, index: getitem(g, index), same=False)
setitem = row(
    "setitem",
    replaced,
    lambda g, index: setitem(g, 0.0, index),
    lambda g, index: getitem(g, index),
    same=False,
)


def add_rows(g: Array, indices: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Zeros of a shape with the slices of g added at `indices` along an axis; equal indices add up."""
    xp = namespace(g)
    out = xp.zeros(shape, dtype=g.dtype)
    if indices.size == 0 or g.size == 0:
        return out
    flat = indices.reshape(-1) % shape[axis]
    slices = xp.moveaxis(g.reshape(*shape[:axis], flat.size, *shape[axis + 1 :]), axis, 0)
    order = xp.argsort(flat, kind="stable")
    ranked = flat[order]
    first = xp.flatnonzero(xp.concatenate([xp.ones(1, bool), ranked[1:] != ranked[:-1]]))
    xp.moveaxis(out, axis, 0)[ranked[first]] = xp.add.reduceat(slices[order], first, axis=0)
    return out


take = row(
    "take",
    lambda x, indices, axis: (np.take(x, indices, axis=axis), x.shape),
    lambda g, kept, indices, axis: put(g, indices, kept, axis),
    keeps=True,
    same=False,
)
put = row("put", add_rows, lambda g, indices, axis: take(g, indices, axis), same=False)


def add_along(g: Array, indices: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Zeros of a shape with g added where `take_along_axis` would take."""
    out = namespace(g).zeros(shape, dtype=g.dtype)
    grid = list(np.ogrid[tuple(slice(n) for n in g.shape)])
    grid[axis] = indices
    scatter_add(out, tuple(grid), g)
    return out


take_along_axis = row(
    "take_along_axis",
    lambda x, indices, axis: (np.take_along_axis(x, indices, axis=axis), x.shape),
    lambda g, kept, indices, axis: put_along_axis(g, indices, kept, axis),
    keeps=True,
    same=False,
)
put_along_axis = row(
    "put_along_axis", add_along, lambda g, indices, axis: take_along_axis(g, indices, axis), same=False
)
argsort = row("argsort", lambda x, axis: np.argsort(x, axis=axis, kind="stable"), same=False)

roll = row(
    "roll",
    lambda x, shift, axis: np.roll(x, shift, axis),
    lambda g, shift, axis: roll(g, opposite(shift), axis),
)
tril = row("tril", lambda x, k: np.tril(x, k), lambda g, k: tril(g, k))
triu = row("triu", lambda x, k: np.triu(x, k), lambda g, k: triu(g, k))
pad = row(
    "pad",
    lambda x, widths, value: np.pad(x, widths, constant_values=value),
    lambda g, widths: getitem(g, tuple(slice(a, n - b) for (a, b), n in zip(widths, g.shape, strict=True))),
)


def opposite(shift: Any) -> Any:
    return tuple(-s for s in shift) if isinstance(shift, tuple) else -shift


def joined(inputs: list[Array], axis: int) -> tuple[Array, list[int]]:
    return np.concatenate(inputs, axis=axis), [x.shape[axis] for x in inputs]


def apart(g: Any, kept: list[int], axis: int) -> tuple[Any, ...]:
    """The pieces of g, of these lengths along an axis."""
    before = (slice(None),) * (axis % len(g.shape))
    ends = np.cumsum(kept).tolist()
    return tuple(getitem(g, (*before, slice(end - n, end))) for n, end in zip(kept, ends, strict=True))


concat = row("concat", joined, joint=apart, keeps=True, variadic=True)


def einsum_rule(g: Any, inputs: list[Any], subscripts: str) -> tuple[Any, ...]:
    """Swap an operand's letters with the result's; a letter of this one alone was summed: repeat."""
    terms, result = subscripts.split("->")
    letters = terms.split(",")
    grads = []
    for i, mine in enumerate(letters):
        others = [t for j, t in enumerate(letters) if j != i]
        known = "".join(c for c in mine if c in "".join([result, *others]))
        others_in = [x for j, x in enumerate(inputs) if j != i]
        part = einsum((g, *others_in), ",".join([result, *others]) + "->" + known)
        shape = tuple(n if c in known else 1 for c, n in zip(mine, inputs[i].shape, strict=True))
        grads.append(broadcast(reshape(part, shape), inputs[i].shape))
    return tuple(grads)


def broadcast(x: Any, shape: tuple[int, ...]) -> Any:
    return x if x.shape == shape else broadcast_to(x, shape)


def widened(x: Array) -> Array:
    """The narrow floats as float32, in which sums of products are added."""
    return x.astype(wide(x.dtype), copy=False) if is_float(x.dtype) else x


einsum = row(
    "einsum",
    lambda inputs, subscripts: np.einsum(subscripts, *map(widened, inputs), optimize=True),
    joint=einsum_rule,
    variadic=True,
)


def cut(x: Array, size: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> Array:
    """Windows of images: (N, C, H, W) -> (N, C, kh, kw, Ho, Wo)."""
    n, c, h, w = x.shape
    sn, sc, sh, sw = x.strides
    (kh, kw), (th, tw), (dh, dw) = size, stride, dilation
    high, wide = (h - dh * (kh - 1) - 1) // th + 1, (w - dw * (kw - 1) - 1) // tw + 1
    if high < 1 or wide < 1:
        raise ValueError(f"a window of {size} with dilation {dilation} does not fit into {(h, w)}")
    shape, strides = (n, c, kh, kw, high, wide), (sn, sc, sh * dh, sw * dw, sh * th, sw * tw)
    return namespace(x).lib.stride_tricks.as_strided(x, shape, strides)


def fold_back(g: Array, shape: tuple[int, ...], stride: Any, dilation: Any) -> Array:
    """Add windows back into images; what overlaps adds up."""
    out = namespace(g).zeros(shape, dtype=g.dtype)
    kh, kw, high, wide = g.shape[2:]
    for i in range(kh):
        for j in range(kw):
            top, left = i * dilation[0], j * dilation[1]
            out[
                :, :, top : top + high * stride[0] : stride[0], left : left + wide * stride[1] : stride[1]
            ] += g[:, :, i, j]
    return out


windows = row(
    "windows",
    lambda x, size, stride, dilation: (cut(x, size, stride, dilation), x.shape),
    lambda g, kept, stride, dilation: fold(g, kept, stride, dilation),
    keeps=True,
)
fold = row(
    "fold",
    lambda g, shape, stride, dilation: (fold_back(g, shape, stride, dilation), g.shape[2:4]),
    lambda g, kept, stride, dilation: windows(g, kept, stride, dilation),
    keeps=True,
)
