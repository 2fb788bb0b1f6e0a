"""What each family of kernels computes, in NumPy's float64, and inputs to try it on.

The kernels of a family all answer the same problem, so a family has one definition and one generator.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

Arrays = tuple[Any, ...]


def inputs(family: str, sizes: tuple[int, ...], seed: int = 0) -> Arrays:
    """Arguments of a family's rungs.

    Args:
        family: as in the library.
        sizes: of the problem: n; rows, columns; m, n, k; heads, n, head; or batch, heads, kv_heads, head,
            page, longest sequence. Histograms: n, bins.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    if family in ("add", "saxpy"):
        return (*((1.5,) if family == "saxpy" else ()), normal(*sizes), normal(*sizes))
    if family in ("copy", "transpose", "sum", "scan"):
        return (normal(*sizes),)
    if family == "histogram":
        return rng.integers(-1, sizes[1] + 1, sizes[0]).astype(np.int32), sizes[1]  # some outside of the bins
    if family == "softmax":
        return (5 * normal(*sizes),)
    if family == "layernorm":
        return 3 + normal(*sizes), normal(sizes[1]), normal(sizes[1])
    if family == "matmul":
        m, n, k = sizes
        return normal(m, k), normal(k, n)
    if family == "matmul bf16":
        m, n, k = sizes
        return normal(m, k).astype(ml_dtypes.bfloat16), normal(k, n).astype(ml_dtypes.bfloat16)
    if family == "attention":
        return normal(*sizes), normal(*sizes), normal(*sizes)
    if family == "attention backward":
        return normal(*sizes), normal(*sizes), normal(*sizes), normal(*sizes)
    if family == "adam":
        return normal(*sizes), normal(*sizes), normal(*sizes), normal(*sizes) ** 2
    if family != "decode":
        raise ValueError(f"there is no family {family!r}")
    batch, heads, kv_heads, head, page, longest = sizes
    lengths = rng.integers(0, longest + 1, batch).astype(np.int32)
    lengths[-1] = longest
    most = -(-longest // page)
    table = rng.permutation(batch * most).reshape(batch, most).astype(np.int32)
    caches = normal(batch * most, kv_heads, page, head), normal(batch * most, kv_heads, page, head)
    return normal(batch, heads, head), *caches, table, lengths


def expected(family: str, arrays: Arrays, **options: Any) -> Any:
    """The exact result: an array, or a tuple where a rung gives one."""
    narrow = (np.float32, ml_dtypes.bfloat16)
    wide = tuple(a.astype(np.float64) if getattr(a, "dtype", None) in narrow else a for a in arrays)
    function = DEFINITIONS[family]
    return function(*wide, **options)


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layernorm(x: Any, gain: Any, bias: Any) -> Any:
    mean, variance = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * gain + bias


def probabilities(q: Any, k: Any, causal: bool) -> Any:
    n, head = q.shape[1:]
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(head)
    return softmax(np.where(np.tri(n, dtype=bool), scores, -np.inf) if causal else scores)


def attention(q: Any, k: Any, v: Any, causal: bool = True) -> Any:
    return probabilities(q, k, causal) @ v


def attention_backward(q: Any, k: Any, v: Any, grad: Any, causal: bool = True) -> Any:
    p = probabilities(q, k, causal)
    dp = grad @ v.transpose(0, 2, 1)
    ds = p * (dp - (p * dp).sum(axis=-1, keepdims=True)) / np.sqrt(q.shape[2])
    return ds @ k, ds.transpose(0, 2, 1) @ q, p.transpose(0, 2, 1) @ grad


def decode(q: Any, keys: Any, values: Any, table: Any, lengths: Any) -> Any:
    out, group = np.zeros(q.shape), q.shape[1] // keys.shape[1]
    for s in range(len(q)):
        k, v = (
            np.concatenate(list(cache[table[s]]), axis=1)[:, : lengths[s]].repeat(group, axis=0)
            for cache in (keys, values)
        )
        if lengths[s]:
            out[s] = attention(q[s][:, None], k, v, causal=False)[:, 0]
    return out


def adam(weight: Any, gradient: Any, m: Any, v: Any) -> Any:
    """The first step with the rungs' default rate, betas, eps and decay."""
    m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
    step = 1e-3 * (m / (1 - 0.9)) / (np.sqrt(v / (1 - 0.999)) + 1e-8)
    return weight * (1 - 1e-3 * 0.01) - step, m, v


DEFINITIONS: dict[str, Any] = {
    "add": lambda x, y: x + y,
    "saxpy": lambda a, x, y: a * x + y,
    "copy": lambda x: x,
    "transpose": lambda x: x.T,
    "sum": lambda x: x.sum(keepdims=True),
    "histogram": lambda x, bins: np.bincount(x[(x >= 0) & (x < bins)], minlength=bins),
    "scan": np.cumsum,
    "softmax": softmax,
    "layernorm": layernorm,
    "matmul": np.matmul,
    "matmul bf16": np.matmul,
    "attention": attention,
    "attention backward": attention_backward,
    "decode": decode,
    "adam": adam,
}
