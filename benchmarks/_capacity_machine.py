"""Steps of three networks on this machine: predicted from single operations, then run.

None of their shapes is in the calibration. Memory that is freed is kept, as the course's engine has it: else
a step's time is as much the system's page faults as its operations.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mlsys_lab._core.allocator import keep_freed_memory
from mlsys_lab.capacity.calibrate import calibrate
from mlsys_lab.capacity.machine import Machine, cpu_seconds
from mlsys_lab.capacity.predict import step_seconds

BAR = 0.15
ROUNDS = 5


class Block(nn.Module):
    """A layer of a transformer before norms: attention and an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        b, s, h = x.shape
        q, k, v = (t.view(b, s, self.heads, -1).transpose(1, 2) for t in self.qkv(self.before(x)).split(h, 2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, s, h))
        return x + self.down(F.gelu(self.up(self.after(x))))


class GPT(nn.Module):
    """Embedding, blocks, a head; returns the loss."""

    def __init__(self, width: int, depth: int, heads: int, vocabulary: int, context: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Any, targets: Any) -> Any:
        x = self.blocks(self.token(tokens) + self.place.weight)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


class Residual(nn.Module):
    """Two convolutions and what they leave out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.two = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))

    def forward(self, x: Any) -> Any:
        return F.relu(x + self.norms[1](self.two(F.relu(self.norms[0](self.one(x))))))


def mlp(width: int, depth: int) -> nn.Module:
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.GELU())]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def cnn(channels: int) -> nn.Module:
    first = (nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2))
    last = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    return nn.Sequential(*first, Residual(channels), Residual(channels), *last)


def tokens(vocabulary: int, batch: int, context: int) -> tuple[Any, Any]:
    return torch.randint(vocabulary, (batch, context)), torch.randint(vocabulary, (batch, context))


CASES: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "MLP, 3 layers of 700, batch 96": lambda: (mlp(700, 3), torch.randn(96, 700)),
    "MLP, 4 layers of 300, batch 400": lambda: (mlp(300, 4), torch.randn(400, 300)),
    "GPT, 3 layers of 96, 6 x 80 tokens": lambda: (GPT(96, 3, 4, 700, 80), tokens(700, 6, 80)),
    "GPT, 4 layers of 192, 4 x 160 tokens": lambda: (GPT(192, 4, 6, 1500, 160), tokens(1500, 4, 160)),
    "CNN, 24 channels, 12 of 40 x 40": lambda: (cnn(24), torch.randn(12, 3, 40, 40)),
    "CNN, 48 channels, 6 of 28 x 28": lambda: (cnn(48), torch.randn(6, 3, 28, 28)),
}


def step(model: Any, inputs: Any, optimizer: Any) -> None:
    loss = model(*inputs) if isinstance(inputs, tuple) else model(inputs).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def measured_machine(say: Callable[[str], Any] = lambda _: None) -> Machine:
    """This machine, as its single operations show it."""
    keep_freed_memory()
    torch.set_num_threads(1)
    return calibrate(say)


def steps(machine: Machine) -> list[dict[str, Any]]:
    """Each network's step: predicted, measured, their ratio with its spread over rounds."""
    keep_freed_memory()
    torch.set_num_threads(1)
    rows = []
    for case, build in CASES.items():
        torch.manual_seed(0)
        model, inputs = build()
        optimizer = torch.optim.AdamW(model.parameters())
        ours = step_seconds(model, inputs, optimizer, machine, step=step)
        took = [
            cpu_seconds(lambda: step(model, inputs, optimizer), least_s=0.2, rounds=3)  # noqa: B023
            for _ in range(ROUNDS)
        ]
        ratios = sorted(ours / t for t in took)
        middle = statistics.median(ratios)
        rows.append(
            {
                "case": case, "peer_name": "the step, run", "ours": ours, "peer": statistics.median(took),
                "ratio_median": middle, "ratio_min": ratios[0], "ratio_max": ratios[-1], "unit": "CPU s",
                "runs": ROUNDS, "bar": 1 + BAR, "pass": abs(middle - 1) <= BAR,
            }
        )  # fmt: skip
    return rows
