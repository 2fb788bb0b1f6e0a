"""HIPS autograd on NumPy, for benchmarks/autograd.py."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import _autograd_work as work_of
import autograd.numpy as np_
import numpy as np
from _autograd_work import Work
from autograd import grad, value_and_grad


def prepare(arguments: list[str]) -> tuple[str, Callable[[Work], Callable[[], float]]]:
    makers = {"mlp": mlp, "gpt": gpt, "chain": chain}
    return f"autograd {version('autograd')}", lambda work: makers[work.kind](work)


def cross_entropy(logits: Any, target: np.ndarray) -> Any:
    logits = logits - np_.max(logits, axis=1, keepdims=True)
    log_p = logits - np_.log(np_.sum(np_.exp(logits), axis=1, keepdims=True))
    return -np_.mean(log_p[np.arange(len(target)), target])


def mlp(work: Work) -> Callable[[], float]:
    p, (x, y) = work_of.mlp(work)

    def loss(p: Any) -> Any:
        h = x
        for i in range(2):
            h = np_.maximum(np_.dot(h, p[f"w{i}"]) + p[f"b{i}"], 0)
        return cross_entropy(np_.dot(h, p["w2"]) + p["b2"], y)

    slope = value_and_grad(loss)

    def step() -> float:
        value, grads = slope(p)
        for name in p:
            p[name] -= work_of.MLP_RATE * grads[name]
        return float(value)

    return step


def gpt(work: Work) -> Callable[[], float]:
    p, (x, y) = work_of.gpt(work)
    batch, positions, heads, width = work.batch, work.positions, work.heads, work.width
    d, target = width // heads, y.reshape(-1)
    hidden = np.triu(np.full((positions, positions), -1e9, np.float32), 1)

    def norm(p: Any, name: str, x: Any) -> Any:
        centred = x - np_.mean(x, axis=-1, keepdims=True)
        spread = np_.sqrt(np_.mean(centred * centred, axis=-1, keepdims=True) + 1e-5)
        return centred / spread * p[name + "_w"] + p[name + "_b"]

    def linear(p: Any, name: str, x: Any) -> Any:
        return np_.dot(x, p[name + "_w"]) + p[name + "_b"]

    def loss(p: Any) -> Any:
        h = np_.reshape(p["tok"][x] + p["pos"], (-1, width))
        for i in range(work.depth):
            qkv = linear(p, f"{i}.qkv", norm(p, f"{i}.ln1", h))
            qkv = np_.transpose(np_.reshape(qkv, (batch, positions, 3, heads, d)), (2, 0, 3, 1, 4))
            scores = np_.matmul(qkv[0], np_.transpose(qkv[1], (0, 1, 3, 2))) * np.float32(d**-0.5) + hidden
            e = np_.exp(scores - np_.max(scores, axis=-1, keepdims=True))
            out = np_.matmul(e / np_.sum(e, axis=-1, keepdims=True), qkv[2])
            h = h + linear(p, f"{i}.proj", np_.reshape(np_.transpose(out, (0, 2, 1, 3)), (-1, width)))
            z = linear(p, f"{i}.fc", norm(p, f"{i}.ln2", h))
            inner = 0.5 * z * (1 + np_.tanh(0.7978845608 * (z + 0.044715 * z * z * z)))
            h = h + linear(p, f"{i}.out", inner)
        return cross_entropy(np_.dot(norm(p, "lnf", h), p["head"]), target)

    slope, moments = value_and_grad(loss), {k: (np.zeros_like(v), np.zeros_like(v)) for k, v in p.items()}
    taken = [0]

    def step() -> float:
        value, grads = slope(p)
        taken[0] += 1
        for name, (m, v) in moments.items():
            m *= 0.9
            m += 0.1 * grads[name]
            v *= 0.999
            v += 0.001 * grads[name] ** 2
            up = m / (1 - 0.9 ** taken[0])
            p[name] -= work_of.GPT_RATE * up / (np.sqrt(v / (1 - 0.999 ** taken[0])) + 1e-8)
        return float(value)

    return step


def chain(work: Work) -> Callable[[], float]:
    start, constant = work_of.chain()
    slope = grad(lambda x: np_.sum(work_of.chained(x, constant, np_.tanh, work.length)))
    return lambda: float(slope(start).sum())
