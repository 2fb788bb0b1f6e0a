"""torch, for benchmarks/autograd.py: arguments "eager", "fused", "compile" or "autocast", and the threads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import _autograd_work as work_of
import torch
from _autograd_work import Work
from torch import nn
from torch.nn import functional as F


def prepare(arguments: list[str]) -> tuple[str, Callable[[Work], Callable[[], float]]]:
    how = arguments[0]
    torch.set_num_threads(int(arguments[-1]))
    makers = {"mlp": mlp, "gpt": gpt, "chain": chain}
    return f"torch {torch.__version__}", lambda work: makers[work.kind](work, how)


def stepped(model: nn.Module, optimizer: Any, x: Any, y: Any, how: str) -> Callable[[], float]:
    """A step of training; the model's logits are (..., classes)."""

    def loss_of() -> Any:
        low = torch.autocast("cpu", torch.bfloat16) if how == "autocast" else contextlib.nullcontext()
        with low:
            logits = model(x)
            return F.cross_entropy(logits.view(-1, logits.shape[-1]), y.reshape(-1))

    forward = torch.compile(loss_of) if how == "compile" else loss_of

    def step() -> float:
        optimizer.zero_grad()
        loss = forward()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def mlp(work: Work, how: str) -> Callable[[], float]:
    weights, (x, y) = work_of.mlp(work)
    n = work.width
    model = nn.Sequential(nn.Linear(784, n), nn.ReLU(), nn.Linear(n, n), nn.ReLU(), nn.Linear(n, 10))
    model.load_state_dict(
        {
            f"{2 * i}.{theirs}": torch.from_numpy(weights[f"{its}{i}"].T.copy())
            for i in range(3)
            for theirs, its in (("weight", "w"), ("bias", "b"))
        }
    )
    fused = {"fused": True} if how == "fused" else {}
    optimizer = torch.optim.SGD(model.parameters(), lr=work_of.MLP_RATE, **fused)
    return stepped(model, optimizer, torch.from_numpy(x), torch.from_numpy(y), how)


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        batch, positions, width = x.shape
        qkv = self.qkv(self.ln1(x)).view(batch, positions, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, T, d) each
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(attended.transpose(1, 2).reshape(batch, positions, width))
        return x + self.out(F.gelu(self.fc(self.ln2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, work: Work) -> None:
        super().__init__()
        self.tok = nn.Embedding(work.vocabulary, work.width)
        self.pos = nn.Parameter(torch.zeros(work.positions, work.width))
        self.blocks = nn.ModuleList(Block(work.width, work.heads) for _ in range(work.depth))
        self.lnf = nn.LayerNorm(work.width)
        self.head = nn.Linear(work.width, work.vocabulary, bias=False)

    def forward(self, x: Any) -> Any:
        h = self.tok(x) + self.pos
        for block in self.blocks:
            h = block(h)
        return self.head(self.lnf(h))


def gpt(work: Work, how: str) -> Callable[[], float]:
    weights, (x, y) = work_of.gpt(work)
    state = {"tok.weight": weights["tok"], "pos": weights["pos"], "head.weight": weights["head"].T}
    for name, value in weights.items():
        part, _, kind = name.rpartition("_")
        if part:
            place = part if part == "lnf" else f"blocks.{part}"
            state[f"{place}.{'weight' if kind == 'w' else 'bias'}"] = value.T
    model = GPT(work)
    model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in state.items()})
    fused = {"fused": True} if how == "fused" else {}
    optimizer = torch.optim.Adam(model.parameters(), lr=work_of.GPT_RATE, **fused)
    return stepped(model, optimizer, torch.from_numpy(x), torch.from_numpy(y), how)


def chain(work: Work, how: str) -> Callable[[], float]:
    start, constant = (torch.from_numpy(a) for a in work_of.chain())

    def loss_of(x: Any) -> Any:
        return work_of.chained(x, constant, torch.tanh, work.length).sum()

    forward = torch.compile(loss_of) if how == "compile" else loss_of

    def step() -> float:
        x = start.clone().requires_grad_()
        forward(x).backward()
        return x.grad.sum().item()

    return step
