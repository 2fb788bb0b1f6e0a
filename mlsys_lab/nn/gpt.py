"""GPT-2 (Radford et al. 2019): pre-norm blocks, learned or rotary positions; the keys are nanoGPT's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlsys_lab import autograd as ag
from mlsys_lab.nn import init
from mlsys_lab.nn.attention import KVCache, MultiHeadAttention
from mlsys_lab.nn.layers import GELU, Dropout, Embedding, LayerNorm, Linear, activated
from mlsys_lab.nn.module import Module, ModuleList


@dataclass(frozen=True)
class GPTConfig:
    """Sizes and choices; the defaults are GPT-2 small's."""

    vocab_size: int = 50257
    block_size: int = 1024
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    n_kv_head: int | None = None
    dropout: float = 0.0
    bias: bool = True
    rope_theta: float | None = None
    tie_weights: bool = True


class MLP(Module):
    """Two linear layers with GELU between: (..., width) -> (..., width)."""

    def __init__(self, width: int, hidden: int | None = None, bias: bool = True, *,
                 generator: init.Generator | None = None) -> None:  # fmt: skip
        self.c_fc = Linear(width, hidden or 4 * width, bias, generator=generator)
        self.act = GELU("tanh")
        self.c_proj = Linear(hidden or 4 * width, width, bias, generator=generator)

    def forward(self, x: Any, residual: Any = None) -> Any:
        return self.c_proj(activated(self.c_fc, self.act, x), residual)


class Block(Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: GPTConfig, generator: init.Generator | None = None) -> None:
        n, c = config.n_embd, config
        self.ln_1, self.ln_2 = LayerNorm(n), LayerNorm(n)
        self.attn = MultiHeadAttention(
            n, c.n_head, c.n_kv_head, bias=c.bias, rope_theta=c.rope_theta, generator=generator
        )
        self.mlp = MLP(n, bias=c.bias, generator=generator)
        self.dropout = Dropout(c.dropout, generator=generator)

    def forward(self, x: Any, cache: KVCache | None = None, layer: int = 0) -> Any:
        if self.training and self.dropout.p:
            x = x + self.dropout(self.attn(self.ln_1(x), None, cache, layer))
            return x + self.dropout(self.mlp(self.ln_2(x)))
        x = self.attn(self.ln_1(x), x, cache, layer)
        return self.mlp(self.ln_2(x), x)


class Transformer(Module):
    """Embeddings, blocks and the last norm."""

    def __init__(self, config: GPTConfig, generator: init.Generator | None = None) -> None:
        self.wte = Embedding(config.vocab_size, config.n_embd, generator=generator)
        if config.rope_theta is None:
            self.wpe = Embedding(config.block_size, config.n_embd, generator=generator)
        self.drop = Dropout(config.dropout, generator=generator)
        self.h = ModuleList(Block(config, generator) for _ in range(config.n_layer))
        self.ln_f = LayerNorm(config.n_embd)

    def forward(self, idx: Any, start: int, cache: KVCache | None) -> Any:
        x, end = self.wte(idx), start + idx.shape[1]  # (B, T, n_embd)
        if hasattr(self, "wpe"):
            table = self.wpe.weight
            x = x + (table if idx.shape[1] == len(table.data) else table[start:end])
        x = self.drop(x)
        for layer, block in enumerate(self.h):
            x = block(x, cache, layer)
        return self.ln_f(x)


class GPT(Module):
    """Token numbers (B, T) to logits (B, T, vocab_size)."""

    def __init__(self, config: GPTConfig, *, generator: init.Generator | None = None) -> None:
        self.config = config
        self.transformer = Transformer(config, generator)
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False, generator=generator)
        self.reset(generator)
        if config.tie_weights:
            self.lm_head.weight = self.transformer.wte.weight

    def reset(self, generator: init.Generator | None = None) -> None:
        """GPT-2's first values: normal(0.02), projections into the residual by 1 / sqrt(2 n_layer) less."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                scaled = math.sqrt(2 * self.config.n_layer) if name.endswith("c_proj.weight") else 1
                init.normal_(parameter, 0.0, 0.02 / scaled, generator)
            elif name.endswith("bias"):
                init.zeros_(parameter)

    def forward(self, idx: Any, cache: KVCache | None = None) -> Any:
        start = 0 if cache is None else cache.length
        end = start + idx.shape[1]
        if end > self.config.block_size:
            raise ag.ShapeError(
                f"expected at most block_size={self.config.block_size} positions, got {end}: crop the tokens"
            )
        x = self.transformer(idx, start, cache)
        if cache is not None:
            cache.length = end
        return self.lm_head(x)

    def generate(self, idx: Any, max_new_tokens: int, *, temperature: float = 1.0, top_k: int | None = None,
                 generator: init.Generator | None = None) -> np.ndarray:  # fmt: skip
        """Continue tokens (B, T), one at a time; with temperature 0 the most likely one.

        Past block_size the model sees the last block_size tokens, without a cache.

        Returns:
            (B, T + max_new_tokens) integers.
        """
        tokens, size = np.asarray(idx), self.config.block_size
        cache = KVCache(self.config.n_layer, size)
        with ag.no_grad():
            for _ in range(max_new_tokens):
                fits = tokens.shape[1] <= size
                logits = self(tokens[:, cache.length :], cache) if fits else self(tokens[:, -size:])
                chosen = sampled(logits.data[:, -1], temperature, top_k, generator)
                tokens = np.concatenate([tokens, chosen[:, None]], axis=1)
        return tokens


def sampled(logits: Any, temperature: float, top_k: int | None, generator: init.Generator | None) -> Any:
    """One class per row of logits (B, V)."""
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.astype(np.float64) / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        least = np.partition(logits, -top_k, axis=-1)[:, -top_k, None]
        logits = np.where(logits < least, -np.inf, logits)
    # The largest of logits plus Gumbel noise is distributed as their softmax.
    return (logits + init.drawn_from(generator).gumbel(size=logits.shape)).argmax(-1)
