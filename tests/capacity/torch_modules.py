"""Small torch modules that counts and closed forms are held against; nothing of the library is in them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


class LlamaBlock(nn.Module):
    """Grouped heads, a gated MLP, two norms, no biases unless q, k and v have them (Qwen 2)."""

    def __init__(self, h: int, a: int, kv: int, d: int, f: int, qkv_bias: bool) -> None:
        super().__init__()
        self.q, self.o = nn.Linear(h, a * d, bias=qkv_bias), nn.Linear(a * d, h, bias=False)
        self.k, self.v = nn.Linear(h, kv * d, bias=qkv_bias), nn.Linear(h, kv * d, bias=qkv_bias)
        self.gate, self.up, self.down = (
            nn.Linear(h, f, bias=False),
            nn.Linear(h, f, bias=False),
            nn.Linear(f, h, bias=False),
        )
        self.norm_1, self.norm_2 = RMSNorm(h), RMSNorm(h)


class Llama(nn.Module):
    def __init__(
        self, L: int, h: int, a: int, kv: int, d: int, f: int, V: int, tied: bool, qkv_bias: bool
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, h)
        self.blocks = nn.ModuleList(LlamaBlock(h, a, kv, d, f, qkv_bias) for _ in range(L))
        self.norm, self.head = RMSNorm(h), nn.Linear(h, V, bias=False)
        if tied:
            self.head.weight = self.embedding.weight


class Block(nn.Module):
    """GPT-2's: layer norms, biases, GELU, flash attention where the device has it."""

    def __init__(self, h: int, a: int) -> None:
        super().__init__()
        self.a = a
        self.norm_1, self.norm_2 = nn.LayerNorm(h), nn.LayerNorm(h)
        self.qkv, self.out = nn.Linear(h, 3 * h), nn.Linear(h, h)
        self.up, self.down = nn.Linear(h, 4 * h), nn.Linear(4 * h, h)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, h = x.shape
        q, k, v = (t.view(B, T, self.a, -1).transpose(1, 2) for t in self.qkv(self.norm_1(x)).split(h, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, h)
        x = x + self.out(y)
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class GatedBlock(Block):
    """The same with three matrices in the MLP, no biases in products, and a hidden width of 3 h."""

    def __init__(self, h: int, a: int) -> None:
        super().__init__(h, a)
        del self.qkv
        self.out = nn.Linear(h, h, bias=False)
        self.q, self.k, self.v = (nn.Linear(h, h, bias=False) for _ in range(3))
        self.gate, self.up = nn.Linear(h, 3 * h, bias=False), nn.Linear(h, 3 * h, bias=False)
        self.down = nn.Linear(3 * h, h, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, h = x.shape
        y = self.norm_1(x)
        q, k, v = (f(y).view(B, T, self.a, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, h)
        x = x + self.out(y)
        y = self.norm_2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class GPT(nn.Module):
    recompute = False

    def __init__(
        self, V: int, S: int, L: int, h: int, a: int, tied: bool = True, block: type[Block] = Block
    ) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(V, h), nn.Embedding(S, h)
        self.blocks = nn.ModuleList(block(h, a) for _ in range(L))
        self.norm, self.head = nn.LayerNorm(h), nn.Linear(h, V, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.recompute else block(x)
        return self.head(self.norm(x))


def measured_peak(
    model: GPT, optimizer: Any, vocabulary: int, context: int, batch: int, times: int = 1
) -> int:
    """Bytes at the peak of the second training step, by the profiler's record of the CPU allocator.

    Weights and the optimiser's state, which were there before, are added.
    """
    from torch.profiler import ProfilerActivity, profile

    tokens = torch.randint(vocabulary, (batch, context))

    def step() -> None:
        optimizer.zero_grad()
        for _ in range(times):  # gradients are added up
            F.cross_entropy(model(tokens).view(-1, vocabulary), tokens.view(-1)).backward()
        optimizer.step()

    step()
    optimizer.zero_grad()
    state = [t for s in optimizer.state.values() for t in s.values() if torch.is_tensor(t)]
    before = sum(t.numel() * t.element_size() for t in [*model.parameters(), *state])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    assert record.profiler is not None
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return before + peak
