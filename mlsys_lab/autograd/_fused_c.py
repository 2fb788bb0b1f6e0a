"""Calls into fused.c: the same functions as in _fused_numpy.py, for float32 and float64 on the processor.

A call makes its arrays contiguous, allocates what it returns and passes pointers. A library is built for a
type when the type is first seen.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from mlsys_lab._core import native
from mlsys_lab._core.backend import address as at
from mlsys_lab.autograd import _fused_numpy as twin

Array = Any
FLAGS = {np.dtype(np.float32): (), np.dtype(np.float64): ("-DREAL_IS_DOUBLE",)}
P, N, F, B = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double, ctypes.c_int
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "add_bias": (P,) * 4 + (N, N),
    "column_sum": (P,) * 2 + (N, N),
    "bias_relu_forward": (P,) * 3 + (N, N),
    "bias_relu_backward": (P,) * 4 + (N, N),
    "bias_gelu_forward": (P,) * 3 + (N, N, B),
    "bias_gelu_backward": (P,) * 5 + (N, N, B),
    "layer_norm_forward": (P,) * 6 + (N, N, F),
    "layer_norm_backward": (P,) * 8 + (N, N),
    "rms_norm_forward": (P,) * 4 + (N, N, F),
    "rms_norm_backward": (P,) * 6 + (N, N),
    "cross_entropy": (P,) * 4 + (N, N, N, F),
    "scatter_add_rows": (P,) * 3 + (N, N),
    "attention_forward": (P,) * 8 + (F,),
    "attention_backward": (P,) * 12 + (F,),
    "matrix_product": (P,) * 4 + (N,) * 13,
    "sgd": (P,) * 3 + (N, F, F, F, F, B, B),
    "adam": (P,) * 4 + (N, F, F, F, F, F, B, F, F),
}  # fmt: skip

PANEL_DEPTH, PANEL_ROW_BYTES = 512, 128  # as in fused.c, for its widest vectors
LEAST_ROWS, LEAST_COLUMNS = 8, 16  # below, packing costs more than it brings


@cache
def library(dtype: Any) -> ctypes.CDLL:
    """The compiled functions for float32 or float64.

    Raises:
        NativeError: there is no compiler, or it failed.
    """
    source = resources.files(__package__).joinpath("fused.c").read_text(encoding="utf-8")
    loaded = native.load(source, name="fused", flags=FLAGS[dtype])
    for name, kinds in SIGNATURES.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = kinds, N if name == "cross_entropy" else None
    return loaded


def _packed(x: Array, **others: Array) -> tuple[Any, ...]:
    """Contiguous arrays of x's type, then x's rows and columns.

    The name of an argument says how long it must be: as x, one per row (mean, rstd), or one per column.
    """
    columns = x.shape[-1]
    rows = x.size // columns
    length = {"mean": rows, "rstd": rows, "weight": columns, "bias": columns}
    for name, array in others.items():
        if array.size != length.get(name, x.size):
            raise ValueError(f"{name} of shape {array.shape} does not fit an array of shape {x.shape}")
    arrays = [np.ascontiguousarray(a, x.dtype) for a in (x, *others.values())]
    return (library(x.dtype), *arrays, rows, columns)


def column_sum(g: Array) -> Array:
    lib, g, rows, cols = _packed(g)
    out = np.empty(cols, g.dtype)
    lib.column_sum(at(out), at(g), rows, cols)
    return out


def add_bias(x: Array, bias: Array, residual: Array | None = None, out: Array | None = None) -> Array:
    lib, x, bias, rest, rows, cols = _packed(x, bias=bias, residual=x if residual is None else residual)
    if out is None:
        out = np.empty_like(x)
    elif out.shape != x.shape or out.dtype != x.dtype or not out.flags.c_contiguous:
        return twin.add_bias(x, bias, residual, out)
    lib.add_bias(at(out), at(x), at(bias), None if residual is None else at(rest), rows, cols)
    return out


def bias_relu(x: Array, bias: Array) -> Array:
    lib, x, bias, rows, cols = _packed(x, bias=bias)
    out = np.empty_like(x)
    lib.bias_relu_forward(at(out), at(x), at(bias), rows, cols)
    return out


def bias_relu_backward(g: Array, out: Array) -> tuple[Array, Array]:
    lib, g, out, rows, cols = _packed(g, out=out)
    dx, dbias = np.empty_like(g), np.empty(cols, g.dtype)
    lib.bias_relu_backward(at(dx), at(dbias), at(g), at(out), rows, cols)
    return dx, dbias


def bias_gelu(x: Array, bias: Array, approximate: str = "none") -> Array:
    lib, x, bias, rows, cols = _packed(x, bias=bias)
    out = np.empty_like(x)
    lib.bias_gelu_forward(at(out), at(x), at(bias), rows, cols, approximate == "tanh")
    return out


def bias_gelu_backward(g: Array, x: Array, bias: Array, approximate: str = "none") -> tuple[Array, Array]:
    lib, g, x, bias, rows, cols = _packed(g, input=x, bias=bias)
    dx, dbias = np.empty_like(g), np.empty(cols, g.dtype)
    lib.bias_gelu_backward(at(dx), at(dbias), at(g), at(x), at(bias), rows, cols, approximate == "tanh")
    return dx, dbias


def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    lib, x, weight, bias, rows, cols = _packed(x, weight=weight, bias=bias)
    out, mean, rstd = np.empty_like(x), np.empty(x.shape[:-1], x.dtype), np.empty(x.shape[:-1], x.dtype)
    lib.layer_norm_forward(at(out), at(mean), at(rstd), at(x), at(weight), at(bias), rows, cols, eps)
    return out, mean, rstd


def layer_norm_backward(
    g: Array, x: Array, weight: Array, mean: Array, rstd: Array
) -> tuple[Array, Array, Array]:
    lib, g, x, weight, mean, rstd, rows, cols = _packed(g, input=x, weight=weight, mean=mean, rstd=rstd)
    dx, dw, db = np.empty_like(g), np.empty(cols, g.dtype), np.empty(cols, g.dtype)
    lib.layer_norm_backward(at(dx), at(dw), at(db), at(g), at(x), at(weight), at(mean), at(rstd), rows, cols)
    return dx, dw, db


def rms_norm(x: Array, weight: Array, eps: float = 1e-5) -> tuple[Array, Array]:
    lib, x, weight, rows, cols = _packed(x, weight=weight)
    out, rstd = np.empty_like(x), np.empty(x.shape[:-1], x.dtype)
    lib.rms_norm_forward(at(out), at(rstd), at(x), at(weight), rows, cols, eps)
    return out, rstd


def rms_norm_backward(g: Array, x: Array, weight: Array, rstd: Array) -> tuple[Array, Array]:
    lib, g, x, weight, rstd, rows, cols = _packed(g, input=x, weight=weight, rstd=rstd)
    dx, dw = np.empty_like(g), np.empty(cols, g.dtype)
    lib.rms_norm_backward(at(dx), at(dw), at(g), at(x), at(weight), at(rstd), rows, cols)
    return dx, dw


def cross_entropy(
    logits: Array, target: Array, reduction: str = "mean", ignore_index: int = -100
) -> tuple[Array, Array]:
    if reduction not in ("mean", "sum", "none") or target.shape != logits.shape[:-1]:
        twin.check_targets(logits, target, reduction, ignore_index)  # raises
    lib, logits, rows, cols = _packed(logits)
    target = np.ascontiguousarray(target, np.int64)
    count = np.count_nonzero(target != ignore_index) if reduction == "mean" else 1
    scale = 1 / count if count else math.nan
    loss, gradient = np.empty(target.shape, logits.dtype), np.empty_like(logits)
    wrong = lib.cross_entropy(at(loss), at(gradient), at(logits), at(target), rows, cols, ignore_index, scale)
    if wrong >= 0:
        raise IndexError(f"target {target.flat[wrong]} is out of bounds for {cols} classes")
    return twin.reduced(loss, reduction, scale), gradient


def scatter_add_rows(table: Array, index: Array, g: Array) -> None:
    if not table.flags.c_contiguous:
        twin.scatter_add_rows(table, index, g)
        return
    rows, cols = table.shape
    index, g = np.ascontiguousarray(index, np.int64), np.ascontiguousarray(g, table.dtype)
    if index.size and (index.min() < 0 or index.max() >= rows):
        raise IndexError(f"indices lie in [{index.min()}, {index.max()}], the table has {rows} rows")
    library(table.dtype).scatter_add_rows(at(table), at(index), at(g), index.size, cols)


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    if a.ndim < 2 or b.ndim < 2 or a.dtype != b.dtype or a.shape[-1] != b.shape[-2]:
        return twin.matmul(a, b, out)  # vectors, mixed types, and the message where shapes do not fit
    (m, depth), n = a.shape[-2:], b.shape[-1]
    if m < LEAST_ROWS or n < LEAST_COLUMNS or not b.size:
        return twin.matmul(a, b, out)
    batch = a.shape[:-2] if b.ndim == 2 else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if out is None:
        out = np.empty((*batch, m, n), a.dtype)
    elif out.shape != (*batch, m, n) or out.dtype != a.dtype or _overlap(out, a) or _overlap(out, b):
        return twin.matmul(a, b, out)
    a, b = _whole(a), _whole(b)
    if a.ndim > 2:
        if b.ndim == 2 and a.flags.c_contiguous and out.flags.c_contiguous:
            _product(a.reshape(1, -1, depth), b[None], out.reshape(1, -1, n))
            return out
        a, b = np.broadcast_to(a, (*batch, m, depth)), np.broadcast_to(b, (*batch, depth, n))
    elif b.ndim > 2:
        a = np.broadcast_to(a, (*batch, m, depth))
    else:
        if 2 * m <= n and b.strides[0] == b.itemsize and m >= LEAST_COLUMNS:
            a, b, out_ = b.T, a.T, out.T  # packs the smaller one, since the larger would have to be turned
        else:
            out_ = out
        _product(a[None], b[None], out_[None])
        return out
    for i in np.ndindex(batch[:-1]):
        _product(a[i], b[i], out[i])
    return out


_overlap = np.may_share_memory


def _whole(x: Array) -> Array:
    """The array itself if its strides count whole elements, else a copy."""
    return x if all(s % x.itemsize == 0 for s in x.strides) else np.ascontiguousarray(x)


def _product(a: Array, b: Array, out: Array) -> None:
    """out = a b per batch: (batch, m, depth), (batch, depth, n), (batch, m, n), all of any strides."""
    batch, m, n = out.shape
    size = a.itemsize
    scratch = np.empty((PANEL_DEPTH + m) * (PANEL_ROW_BYTES // size), a.dtype)
    library(a.dtype).matrix_product(
        at(out), at(a), at(b), at(scratch), batch, m, n, a.shape[2],
        *[s // size for s in a.strides + b.strides + out.strides],
    )  # fmt: skip


def _strides(*arrays: Array) -> Array:
    return np.array([[s // a.itemsize for s in a.strides[:3]] for a in arrays], np.int64)


def _unit(x: Array, dtype: Any) -> Array:
    """The array itself if it has the type and a contiguous last axis, else a copy."""
    return x if x.dtype == dtype and x.strides[-1] == x.itemsize else np.ascontiguousarray(x, dtype)


def _sizes(q: Array, k: Array, v: Array, causal: bool, offset: int) -> Array:
    twin.check_attention(q, k, v, offset)
    (batch, heads, queries, features), (_, shared, keys, _) = q.shape, k.shape
    sizes = (batch, heads, shared, queries, keys, features, v.shape[-1], offset if causal else -1)
    return np.array(sizes, np.int64)


def heads_last(like: Array, features: int) -> Array:
    """A new (batch, heads, positions, features) array, in memory (batch, positions, heads, features)."""
    batch, heads, positions = like.shape[:3]
    return np.empty((batch, positions, heads, features), like.dtype).transpose(0, 2, 1, 3)


def attention(
    q: Array, k: Array, v: Array, causal: bool = True, scale: float | None = None, offset: int = 0
) -> tuple[Array, Array]:
    q, k, v = (_unit(x, q.dtype) for x in (q, k, v))
    sizes = _sizes(q, k, v, causal, offset)
    keys, d = k.shape[2:]
    out, log_sum = heads_last(q, v.shape[-1]), np.empty(q.shape[:3], q.dtype)
    scratch = np.empty((d + 32) * keys, q.dtype)
    strides = _strides(q, k, v, out)
    library(q.dtype).attention_forward(
        at(out), at(log_sum), at(q), at(k), at(v), at(scratch), at(sizes), at(strides),
        1 / math.sqrt(d) if scale is None else scale,
    )  # fmt: skip
    return out, log_sum


def attention_backward(
    g: Array, q: Array, k: Array, v: Array, out: Array, log_sum: Array,
    causal: bool = True, scale: float | None = None, offset: int = 0,
    out_gradients: tuple[Array, Array, Array] | None = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    if out_gradients is None:
        out_gradients = heads_last(q, q.shape[-1]), heads_last(k, k.shape[-1]), heads_last(v, v.shape[-1])
    elif any(x.strides[-1] != x.itemsize or x.dtype != q.dtype for x in out_gradients):
        return twin.attention_backward(g, q, k, v, out, log_sum, causal, scale, offset, out_gradients)
    dq, dk, dv = out_gradients
    g, q, k, v, out = (_unit(x, q.dtype) for x in (g, q, k, v, out))
    log_sum = np.ascontiguousarray(log_sum, q.dtype)
    sizes, (keys, d) = _sizes(q, k, v, causal, offset), k.shape[2:]
    for x in out_gradients:  # the kernel adds, since heads may share
        x[...] = 0
    scratch = np.empty((d + v.shape[-1] + 64) * keys, q.dtype)
    strides = _strides(q, k, v, out, g, dq, dk, dv)
    library(q.dtype).attention_backward(
        at(dq), at(dk), at(dv), at(g), at(q), at(k), at(v), at(out), at(log_sum), at(scratch), at(sizes),
        at(strides), 1 / math.sqrt(d) if scale is None else scale,
    )  # fmt: skip
    return out_gradients


def _flat(p: Array, *others: Array | None) -> None:
    """Refuse what one loop cannot take: the arrays are changed in place, so none is copied."""
    for array in (p, *others):
        if array is not None and not (
            array.flags.c_contiguous and array.dtype == p.dtype and array.size == p.size
        ):
            raise ValueError(
                "an optimiser step takes contiguous arrays of one type and size: use optim.Arena"
            )


def sgd_step(
    p: Array, g: Array, velocity: Array | None, *, lr: float, momentum: float = 0.0, dampening: float = 0.0,
    weight_decay: float = 0.0, nesterov: bool = False, first: bool = False,
) -> None:  # fmt: skip
    _flat(p, g, velocity)
    library(p.dtype).sgd(
        at(p), at(g), None if velocity is None else at(velocity), p.size,
        lr, momentum, dampening, weight_decay, nesterov, first,
    )  # fmt: skip


def adam_step(
    p: Array, g: Array, m: Array, v: Array, *, step: int, lr: float,
    betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
    weight_decay: float = 0.0, decoupled: bool = False,
) -> None:  # fmt: skip
    _flat(p, g, m, v)
    b1, b2 = betas
    left1, left2 = 1 - b1**step, 1 - b2**step
    library(p.dtype).adam(
        at(p), at(g), at(m), at(v), p.size, lr, b1, b2, eps, weight_decay, decoupled, left1, left2
    )
