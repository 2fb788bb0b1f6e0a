"""The workloads of benchmarks/autograd.py: sizes, first weights, data. NumPy alone, so every peer has them.

mlp: 784-width-width-10 with ReLU and SGD. gpt: pre-norm GPT-2 blocks, GELU with tanh, an own head, Adam.
chain: elementwise operations on 16 numbers, forward and backward.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

MLP_RATE, GPT_RATE = 0.05, 1e-3
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Work:
    """One workload; each kind reads the sizes that it has."""

    kind: str
    batch: int = 64
    width: int = 256
    depth: int = 4
    positions: int = 64
    heads: int = 4
    vocabulary: int = 512
    length: int = 1000

    @property
    def name(self) -> str:
        if self.kind == "chain":
            return f"chain of {self.length}"
        size = f"batch {self.batch}, width {self.width}"
        return (
            f"mlp {size}" if self.kind == "mlp" else f"gpt {size}, seq {self.positions}, depth {self.depth}"
        )


MLP = Work("mlp")
GPT = Work("gpt", batch=8, width=128)
CHAIN = Work("chain")


def mlp(work: Work) -> tuple[Arrays, tuple[np.ndarray, np.ndarray]]:
    """Weights (in, out) and biases of three layers; inputs and classes."""
    rng = np.random.default_rng(0)
    sizes = (784, work.width, work.width, 10)
    weights: Arrays = {}
    for i, (n, m) in enumerate(pairwise(sizes)):
        weights[f"w{i}"] = (rng.standard_normal((n, m)) / np.sqrt(n)).astype(np.float32)
        weights[f"b{i}"] = np.zeros(m, np.float32)
    return weights, (
        rng.standard_normal((work.batch, 784)).astype(np.float32),
        rng.integers(0, 10, work.batch),
    )


def gpt(work: Work) -> tuple[Arrays, tuple[np.ndarray, np.ndarray]]:
    """Weights (in, out) by name; tokens and the tokens after them, (batch, positions) each."""
    rng = np.random.default_rng(0)
    n, v = work.width, work.vocabulary

    def normal(*shape: int) -> np.ndarray:
        return (0.02 * rng.standard_normal(shape)).astype(np.float32)

    def norm(name: str) -> Arrays:
        return {f"{name}_w": np.ones(n, np.float32), f"{name}_b": np.zeros(n, np.float32)}

    weights = {"tok": normal(v, n), "pos": normal(work.positions, n), "head": normal(n, v), **norm("lnf")}
    for i in range(work.depth):
        weights |= norm(f"{i}.ln1") | norm(f"{i}.ln2")
        for name, rows, columns in (
            ("qkv", n, 3 * n),
            ("proj", n, n),
            ("fc", n, 4 * n),
            ("out", 4 * n, n),
        ):
            weights[f"{i}.{name}_w"] = normal(rows, columns)
            weights[f"{i}.{name}_b"] = np.zeros(columns, np.float32)
    tokens = rng.integers(0, v, (work.batch, work.positions + 1))
    return weights, (tokens[:, :-1].copy(), tokens[:, 1:].copy())


def chain() -> tuple[np.ndarray, np.ndarray]:
    """What the chain starts from, and its constant."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(16).astype(np.float32), rng.standard_normal(16).astype(np.float32)


def chained(x: Any, constant: Any, tanh: Any, length: int) -> Any:
    """`length` elementwise operations: with an array, with numbers, a function, a product with itself."""
    for _ in range(length // 5):
        x = x * constant
        x = x + 0.1
        x = tanh(x)
        x = x * x
        x = x - 0.5
    return x
