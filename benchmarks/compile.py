"""Compiled functions against eager and torch: `python benchmarks/compile.py --json FILE [--quick]`.

CPU time of a chain of 1,000 elementwise operations on 16 numbers, forward and backward (bar: 0.005 of torch
eager), of GELU and LayerNorm written from primitives (0.5 of our eager), and of training steps of a small
network (1.05 of our eager). Both sides run in turn in this process, on one thread.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from measure import Row, arguments, report, row

import mlsys_lab.autograd as ag
from mlsys_lab._core.allocator import keep_freed_memory
from mlsys_lab.autograd import fused_rows
from mlsys_lab.compile import compile

Step = Callable[[], Any]
rng = np.random.default_rng(0)


def weights(*shape: int) -> ag.Tensor:
    scale = shape[0] ** -0.5 if len(shape) > 1 else 0.1
    return ag.Tensor((rng.normal(size=shape) * scale).astype(np.float32), requires_grad=True)


def chain(x: Any, c: Any, tanh: Callable[[Any], Any]) -> Any:
    """250 times four operations."""
    for _ in range(250):
        x = tanh(x * c) * 1.9 + x
    return x


def chain_steps() -> tuple[Step, Step, Step]:
    """Compiled, eager, torch."""
    x, c = weights(16), ag.Tensor(weights(16).data)
    step = lambda x, c: ag.grad(ag.sum(chain(x, c, ag.tanh)), x)  # noqa: E731
    compiled = compile(step)
    theirs, factor = torch.tensor(x.numpy(), requires_grad=True), torch.tensor(c.numpy())

    def peer() -> Any:
        theirs.grad = None
        chain(theirs, factor, torch.tanh).sum().backward()
        return theirs.grad

    np.testing.assert_allclose(compiled(x, c)[0].numpy(), peer().numpy(), rtol=1e-4)
    return lambda: compiled(x, c), lambda: step(x, c), peer


def gelu(x: Any) -> Any:
    return 0.5 * x * (1 + ag.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def layer_norm(x: Any, w: Any, b: Any) -> Any:
    centred = x - ag.mean(x, axis=-1, keepdims=True)  # (rows, n)
    return centred / ag.sqrt(ag.mean(centred * centred, axis=-1, keepdims=True) + 1e-5) * w + b


def primitives_step(fn: Callable[..., Any], *inputs: ag.Tensor) -> tuple[Step, Step]:
    """Forward and backward of a function that is written from primitives: compiled, eager."""

    def step(*inputs: Any) -> Any:
        y = fn(*inputs)
        return ag.grad(ag.mean(y * y), inputs)

    return both(step, *inputs)


def both(step: Callable[..., Any], *inputs: Any) -> tuple[Step, Step]:
    compiled = compile(step)
    for ours, eager in zip(compiled(*inputs), step(*inputs), strict=True):
        scale = np.abs(eager.numpy()).max()
        np.testing.assert_allclose(ours.numpy(), eager.numpy(), rtol=1e-4, atol=1e-5 * scale)
    return lambda: compiled(*inputs), lambda: step(*inputs)


def network_step(fused: bool) -> tuple[Step, Step]:
    """Loss and gradients of 784-256-256-10 at batch 64, from primitives or from fused rows."""
    keep_freed_memory()  # as an optimiser does, for both sides
    sizes = ((784, 256), (256, 256), (256, 10))
    layers = [(weights(*(s[::-1] if fused else s)), weights(s[1])) for s in sizes]
    parameters = [p for layer in layers for p in layer]
    x, target = ag.Tensor(weights(64, 784).data * 8), ag.Tensor(rng.integers(0, 10, 64))

    def plain(h: Any) -> Any:
        for i, (w, b) in enumerate(layers):
            h = h @ w + b  # (64, 256), (64, 256), (64, 10)
            h = ag.relu(h) if i < 2 else h
        return ag.cross_entropy(h, target)

    def from_rows(h: Any) -> Any:
        for w, b in layers[:2]:
            h = fused_rows.bias_relu(fused_rows.linear(h, w), b)
        return fused_rows.cross_entropy(fused_rows.linear(h, *layers[2]), target)

    def step(x: Any) -> Any:
        loss = (from_rows if fused else plain)(x)
        return (loss, *ag.grad(loss, parameters))

    return both(step, x)


def cpu_ms(step: Step, runs: int) -> float:
    start = time.process_time()
    for _ in range(runs):
        step()
    return (time.process_time() - start) / runs * 1e3


def compare(
    case: str, peer_name: str, ours: Step, peer: Step, runs: tuple[int, int], rounds: int, bar: float
) -> Row:
    """Rounds in turn, of so many runs each."""
    pairs = [(cpu_ms(ours, runs[0]), cpu_ms(peer, runs[1])) for _ in range(rounds + 1)][1:]  # one to warm up
    return row(case, peer_name, *map(list, zip(*pairs, strict=True)), "CPU ms", bar)  # type: ignore[arg-type]


def main() -> int:
    options = arguments(__doc__ or "")
    torch.set_num_threads(1)
    rounds, many = (1, 1) if options.quick else (9, 20)
    compiled, eager, peer = chain_steps()
    rows = [
        compare(
            "chain of 1,000, forward and backward",
            "torch eager",
            compiled,
            peer,
            (50 * many, many),
            rounds,
            0.005,
        ),
        compare(
            "chain of 1,000, forward and backward",
            "our eager",
            compiled,
            eager,
            (50 * many, many),
            rounds,
            0.5,
        ),
    ]
    x, w, b = weights(512, 768), weights(768), weights(768)
    cases = [
        ("GELU from primitives, 512 x 768", primitives_step(gelu, x), 0.5),
        ("three GELU in a row", primitives_step(lambda x: gelu(gelu(gelu(x))), x), 0.5),
        ("LayerNorm from primitives, 512 x 768", primitives_step(layer_norm, x, w, b), 0.5),
        ("MLP 784-256-256-10, primitives", network_step(False), 1.05),
        ("MLP 784-256-256-10, fused rows", network_step(True), 1.05),
    ]
    rows += [
        compare(name, "our eager", *steps, (2 * many, 2 * many), rounds, bar) for name, steps, bar in cases
    ]
    return report(rows, options)


if __name__ == "__main__":
    sys.exit(main())
