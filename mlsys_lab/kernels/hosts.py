"""The host's half of each kernel: what it allocates, how large a grid it launches, in which order.

Each function takes `go`, which launches a kernel of the library by name, then arrays; sizes come from their
shapes. Arrays are NumPy's on the simulator and CuPy's on a GPU: nothing here asks which.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsys_lab.kernels.tensor_map import Tiles

if TYPE_CHECKING:
    from mlsys_lab.kernels.launcher import Launcher

THREADS = 256
EACH = 16  # elements that a thread adds up where a fixed grid walks over the data
MOST_BLOCKS = 2048  # some blocks for each multiprocessor of the largest GPU
HOPPERS_MULTIPROCESSORS = 132  # of an H100 SXM, an H200: NVIDIA's H100 whitepaper, 2022
WGMMA_SHARED = 4 * (128 + 256) * 64 * 2 + 1024  # a ring of four stages, and room to align it
HEAD, DECODE_HEAD, GROUP = 64, 128, 8  # the limits of attention.cu and decode.cu


def blocks_for(n: int, each: int = THREADS) -> int:
    """Blocks that cover n elements; at least one."""
    return max(1, -(-n // each))


def walking(n: int) -> int:
    """Blocks of a grid of limited size."""
    return min(blocks_for(n, THREADS * EACH), MOST_BLOCKS)


def empty(shape: Any, like: Any) -> Any:
    """An array for a result, where `like` lies; NaN or -1 show what no thread has written."""
    return np.full_like(like, np.nan if like.dtype.kind == "f" else -1, shape=shape)


def vector_add(go: Launcher, kernel: str, x: Any, y: Any) -> Any:
    z, per = empty(x.shape, x), 4 if kernel.endswith("float4") else 1
    go(kernel, blocks_for(x.size, THREADS * per), x, y, z, x.size)
    return z


def saxpy(go: Launcher, a: float, x: Any, y: Any) -> Any:
    z = y.copy()
    go("saxpy", walking(x.size), a, x, z, x.size)
    return z


def copy(go: Launcher, stride: int, x: Any) -> Any:
    """Every `stride`-th element."""
    y = empty(blocks_for(x.size, stride), x)
    go("copy_strided", blocks_for(y.size), x, y, y.size, stride)
    return y


def transpose(go: Launcher, kernel: str, x: Any) -> Any:
    rows, columns = x.shape
    y = empty((columns, rows), x)
    go(kernel, (blocks_for(columns, 32), blocks_for(rows, 32)), x, y, rows, columns)
    return y


def total(go: Launcher, kernel: str, x: Any) -> Any:
    """The sum, an array of one."""
    out = np.zeros_like(x, shape=1)
    if kernel == "sum_two_pass":
        partial = empty(walking(x.size), x)
        go(kernel, partial.size, x, partial, x.size)
        go(kernel, 1, partial, out, partial.size)
    else:
        go(kernel, 1 if kernel == "sum_one_thread" else blocks_for(x.size), x, out, x.size)
    return out


def histogram(go: Launcher, kernel: str, x: Any, bins: int) -> Any:
    counts = np.zeros_like(x, shape=bins)
    if kernel == "histogram_shared":
        go(kernel, walking(x.size), x, counts, x.size, bins, shared=4 * bins)
    else:
        go(kernel, blocks_for(x.size), x, counts, x.size, bins)
    return counts


def scan(go: Launcher, kernel: str, x: Any) -> Any:
    """By one block."""
    y = empty(x.shape, x)
    go(kernel, 1, x, y, x.size)
    return y


def scan_blocks(go: Launcher, x: Any) -> Any:
    y, sums = empty(x.shape, x), empty(blocks_for(x.size), x)
    go("scan_tiles", sums.size, x, y, sums, x.size)
    go("scan_add", sums.size, y, scan(go, "scan_blelloch", sums), x.size)
    return y


def softmax(go: Launcher, kernel: str, x: Any) -> Any:
    """Of each row."""
    y = empty(x.shape, x)
    go(kernel, x.shape[0], x, y, x.shape[1])
    return y


def layernorm(go: Launcher, kernel: str, x: Any, gain: Any, bias: Any, eps: float = 1e-5) -> Any:
    y = empty(x.shape, x)
    go(kernel, x.shape[0], x, gain, bias, y, x.shape[1], eps)
    return y


def matmul(go: Launcher, kernel: str, tile: int, a: Any, b: Any) -> Any:
    """a (m, k) times b (k, n)."""
    (m, k), n = a.shape, b.shape[1]
    c = empty((m, n), a)
    grid = (blocks_for(n, tile), blocks_for(m, tile))
    go(kernel, grid[::-1] if kernel == "matmul_naive" else grid, a, b, c, m, n, k)
    return c


def matmul_bf16(go: Launcher, kernel: str, a: Any, b: Any) -> Any:
    """a (m, k) times b (k, n), both bfloat16; float32."""
    (m, k), n = a.shape, b.shape[1]
    a, b = a.view(np.uint16), b.view(np.uint16)  # not every array library knows bfloat16
    c = np.full_like(a, np.nan, shape=(m, n), dtype=np.float32)
    go(kernel, (blocks_for(n, 64), blocks_for(m, 64)), a, b, c, m, n, k)
    return c


def matmul_wgmma(go: Launcher, a: Any, b: Any) -> Any:
    """a (m, k) times b (k, n), both bfloat16; float32. Rows that are no multiple of 16 bytes are copied."""
    (m, k), n = a.shape, b.shape[1]
    a, b = padded(a.view(np.uint16)), padded(b.view(np.uint16))
    c = np.full_like(a, np.nan, shape=(m, n), dtype=np.float32)
    grid = min(blocks_for(m, 128) * blocks_for(n, 256), HOPPERS_MULTIPROCESSORS)
    boxes = Tiles(a, (128, 64)), Tiles(b, (64, 64))
    go("matmul_wgmma", grid, *boxes, c, m, n, k, shared=WGMMA_SHARED)
    return c


def padded(x: Any) -> Any:
    """A matrix with zeros up to a multiple of 8 columns; itself where it has one."""
    rows, columns = x.shape
    if columns % 8 == 0:
        return x
    wide = np.zeros_like(x, shape=(rows, columns + -columns % 8))
    wide[:, :columns] = x
    return wide


def attention_naive(go: Launcher, q: Any, k: Any, v: Any, *, causal: bool = True) -> Any:
    """Output (heads, n, head) of q, k, v of that shape; the matrix of scores lies in memory."""
    heads, n, head = attention_sizes(q)
    scores, out = empty((heads, n, n), q), empty(q.shape, q)
    go(
        "attention_scores",
        (blocks_for(n, 128), n, heads),
        q,
        k,
        scores,
        n,
        head,
        1 / math.sqrt(head),
        int(causal),
    )
    p = softmax(go, "softmax_three_pass", scores.reshape(heads * n, n))
    go("attention_values", (1, n, heads), p, v, out, n, head)
    return out


def attention_flash(go: Launcher, q: Any, k: Any, v: Any, *, causal: bool = True) -> Any:
    return flash(go, q, k, v, causal)[0]


def flash(go: Launcher, q: Any, k: Any, v: Any, causal: bool) -> tuple[Any, Any]:
    """Output, and the logarithm of each query's sum of exponentials, which the backward pass asks for."""
    heads, n, head = attention_sizes(q)
    out, lse = empty(q.shape, q), empty((heads, n), q)
    grid = (blocks_for(n, 32), heads)
    go("attention_flash", grid, q, k, v, out, lse, n, head, 1 / math.sqrt(head), int(causal))
    return out, lse


def attention_backward(go: Launcher, q: Any, k: Any, v: Any, grad: Any, *, causal: bool = True) -> Any:
    """Gradients of q, k and v, for the gradient of the output."""
    return attention_gradients(go, q, k, v, grad, *flash(go, q, k, v, causal), causal)


def attention_gradients(
    go: Launcher, q: Any, k: Any, v: Any, grad: Any, out: Any, lse: Any, causal: bool
) -> tuple[Any, Any, Any]:
    """The same from what the forward pass gave."""
    heads, n, head = attention_sizes(q)
    delta, dq, dk, dv = empty((heads, n), q), empty(q.shape, q), empty(q.shape, q), empty(q.shape, q)
    grid, rest = (blocks_for(n, 32), heads), (n, head, 1 / math.sqrt(head), int(causal))
    go("attention_delta", blocks_for(heads * n, 4), out, grad, delta, heads * n, head)
    go("attention_backward_q", grid, q, k, v, grad, lse, delta, dq, *rest)
    go("attention_backward_kv", grid, q, k, v, grad, lse, delta, dk, dv, *rest)
    return dq, dk, dv


def attention_sizes(q: Any) -> tuple[int, int, int]:
    """Heads, queries, dimensions.

    Raises:
        ValueError: a head is larger than the kernels have room for.
    """
    heads, n, head = q.shape
    if head > HEAD:
        raise ValueError(f"the attention kernels hold heads of at most {HEAD} dimensions, got {head}")
    return heads, n, head


def decode(go: Launcher, kernel: str, q: Any, keys: Any, values: Any, table: Any, lengths: Any) -> Any:
    """Output (batch, heads, head); see decode.cu for the shapes.

    Raises:
        ValueError: a head, or a group of query heads, is larger than the kernels have room for.
    """
    (batch, heads, head), (_, kv_heads, page, _) = q.shape, keys.shape
    if head > DECODE_HEAD or heads % kv_heads or heads // kv_heads > GROUP:
        raise ValueError(
            f"expected heads of at most {DECODE_HEAD} dimensions and at most {GROUP} query heads for each "
            f"K/V head, got {head} dimensions, {heads} query heads, {kv_heads} K/V heads"
        )
    out = empty(q.shape, q)
    grid = (heads if kernel == "decode_paged" else kv_heads, batch)
    sizes = (heads, kv_heads, head, page, table.shape[1], 1 / math.sqrt(head))
    go(kernel, grid, q, keys, values, table, lengths, out, *sizes)
    return out


def adam(
    go: Launcher, fused: bool, weight: Any, gradient: Any, m: Any, v: Any, *, step: int = 1,
    rate: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, decay: float = 0.01,
) -> Any:  # fmt: skip
    """One step of AdamW: new weight, m and v."""
    weight, m, v, n = weight.copy(), m.copy(), v.copy(), weight.size
    grid, (beta1, beta2) = blocks_for(n), betas
    corrections = (1 - beta1**step, 1 - beta2**step)
    if fused:
        go("adam_fused", grid, weight, gradient, m, v, rate, beta1, beta2, eps, decay, *corrections, n)
    else:
        go("adam_average", grid, gradient, m, beta1, 0, n)
        go("adam_average", grid, gradient, v, beta2, 1, n)
        go("adam_step", grid, weight, m, v, rate, eps, decay, *corrections, n)
    return weight, m, v
