"""Self-attention: packed projections, grouped queries, rotary positions, a cache of keys and values.

Vaswani et al. 2017; Ainslie et al. 2023 (GQA); Su et al. 2021 (RoPE), with the halves of a head rotated
against each other as in GPT-NeoX and Llama.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlsys_lab import autograd as ag
from mlsys_lab.nn import functional as F
from mlsys_lab.nn.init import Generator
from mlsys_lab.nn.layers import Linear
from mlsys_lab.nn.module import Module


class KVCache:
    """Keys and values of the positions so far, for generation without gradients.

    Args:
        layers: of the model.
        capacity: the most positions.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        self.capacity, self.length = capacity, 0
        self.layers: list[tuple[Any, Any] | None] = [None] * layers

    def extend(self, layer: int, k: Any, v: Any) -> tuple[Any, Any]:
        """Append (B, KV, T, d) to a layer's; returns all so far. The model advances `length` after it."""
        end = self.length + k.shape[2]
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} positions, got {end}: make it larger")
        kept = self.layers[layer]
        if kept is None:
            shape = (*k.shape[:2], self.capacity, k.shape[3])
            kept = self.layers[layer] = np.empty(shape, k.dtype), np.empty(shape, v.dtype)
        for all_, new in zip(kept, (k, v), strict=True):
            all_[:, :, self.length : end] = new.data
        return ag.Tensor(kept[0][:, :, :end]), ag.Tensor(kept[1][:, :, :end])


def rotary(x: Any, start: int = 0, theta: float = 10000.0) -> Any:
    """Rotate pairs (i, i + d/2) of each head by position / theta^(2i/d): (B, H, T, d) -> (B, H, T, d)."""
    positions, half = x.shape[2], x.shape[3] // 2
    angles = np.arange(start, start + positions)[:, None] * theta ** (-np.arange(half) / half)  # (T, d/2)
    cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
    left, right = x[..., :half], x[..., half:]
    return ag.concat([left * cos - right * sin, right * cos + left * sin], axis=-1)


class MultiHeadAttention(Module):
    """Self-attention: (B, T, d_model) -> (B, T, d_model).

    Args:
        d_model: width, a multiple of n_head.
        n_head: heads of queries.
        n_kv_head: heads of keys and values, a divisor of n_head; n_head unless given.
        bias: of both projections.
        causal: a position sees those up to itself.
        rope_theta: the base of rotary positions; None for none.
        generator: for first values.
    """

    def __init__(self, d_model: int, n_head: int, n_kv_head: int | None = None, *, bias: bool = True,
                 causal: bool = True, rope_theta: float | None = None,
                 generator: Generator | None = None) -> None:  # fmt: skip
        n_kv_head = n_kv_head or n_head
        if d_model % n_head or n_head % n_kv_head:
            raise ValueError(
                f"expected d_model a multiple of n_head, and n_head of n_kv_head, got {d_model}, {n_head}, "
                f"{n_kv_head}: change one"
            )
        self.n_head, self.n_kv_head, self.d_head = n_head, n_kv_head, d_model // n_head
        self.causal, self.rope_theta = causal, rope_theta
        packed = (n_head + 2 * n_kv_head) * self.d_head
        self.c_attn = Linear(d_model, packed, bias, generator=generator)
        self.c_proj = Linear(d_model, d_model, bias, generator=generator)

    def forward(self, x: Any, residual: Any = None, cache: KVCache | None = None, layer: int = 0) -> Any:
        """Attend; `residual` is added to the result, `cache` holds what came before x."""
        batch, positions, width = x.shape
        qkv = F.widened(self.c_attn(x))  # (B, T, (H + 2 KV) d)
        if cache is None and self.rope_theta is None and self.n_kv_head == self.n_head:
            return self.c_proj(ag.packed_attention(qkv, self.n_head, causal=self.causal), residual)
        heads = qkv.reshape(batch, positions, self.n_head + 2 * self.n_kv_head, self.d_head)
        heads = ag.permute_dims(heads, (0, 2, 1, 3))  # (B, H + 2 KV, T, d)
        q, k, v = ag.split(heads, [self.n_head, self.n_head + self.n_kv_head], 1)
        start = 0 if cache is None else cache.length
        if self.rope_theta is not None:
            q, k = rotary(q, start, self.rope_theta), rotary(k, start, self.rope_theta)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        out = ag.attention(q, k, v, causal=self.causal, offset=start)  # (B, H, T, d)
        return self.c_proj(ag.permute_dims(out, (0, 2, 1, 3)).reshape(batch, positions, width), residual)
