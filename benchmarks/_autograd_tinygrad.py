"""tinygrad with TinyJit, for benchmarks/autograd.py; its chain of 1,000 does not compile in useful time."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import _autograd_work as work_of
import numpy as np
from _autograd_work import Work
from tinygrad import Tensor, TinyJit
from tinygrad.helpers import Context
from tinygrad.nn import optim


def prepare(arguments: list[str]) -> tuple[str, Callable[[Work], Callable[[], float]]]:
    makers = {"mlp": mlp, "gpt": gpt}
    return f"tinygrad {version('tinygrad')}", lambda work: makers[work.kind](work)


def stepped(make: Any, rate: float, weights: Any, loss_of: Callable[[Any], Any]) -> Callable[[], float]:
    p = {name: Tensor(value).contiguous().realize() for name, value in weights.items()}
    for value in p.values():
        value.requires_grad = True
    optimizer = make(list(p.values()), lr=rate)

    @TinyJit
    def run() -> Any:
        with Context(TRAINING=1):
            optimizer.zero_grad()
            loss = loss_of(p).backward()
            return loss.realize(*optimizer.schedule_step())

    return lambda: float(run().item())


def mlp(work: Work) -> Callable[[], float]:
    weights, (x, y) = work_of.mlp(work)
    inputs, target = Tensor(x).realize(), Tensor(y.astype(np.int32)).realize()

    def loss(p: Any) -> Any:
        h = inputs
        for i in range(2):
            h = (h @ p[f"w{i}"] + p[f"b{i}"]).relu()
        return (h @ p["w2"] + p["b2"]).sparse_categorical_crossentropy(target)

    return stepped(optim.SGD, work_of.MLP_RATE, weights, loss)


def gpt(work: Work) -> Callable[[], float]:
    weights, (x, y) = work_of.gpt(work)
    batch, positions, heads, width = work.batch, work.positions, work.heads, work.width
    tokens, target = (Tensor(a.astype(np.int32)).realize() for a in (x, y))

    def norm(p: Any, name: str, x: Any) -> Any:
        return x.layernorm(eps=1e-5) * p[name + "_w"] + p[name + "_b"]

    def linear(p: Any, name: str, x: Any) -> Any:
        return x @ p[name + "_w"] + p[name + "_b"]

    def loss(p: Any) -> Any:
        h = p["tok"][tokens] + p["pos"]
        for i in range(work.depth):
            qkv = linear(p, f"{i}.qkv", norm(p, f"{i}.ln1", h))
            qkv = qkv.reshape(batch, positions, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            out = qkv[0].scaled_dot_product_attention(qkv[1], qkv[2], is_causal=True)
            h = h + linear(p, f"{i}.proj", out.transpose(1, 2).reshape(batch, positions, width))
            h = h + linear(p, f"{i}.out", linear(p, f"{i}.fc", norm(p, f"{i}.ln2", h)).gelu())
        return (norm(p, "lnf", h) @ p["head"]).sparse_categorical_crossentropy(target)

    return stepped(optim.Adam, work_of.GPT_RATE, weights, loss)
