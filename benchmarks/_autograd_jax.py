"""jax.jit of a whole step, with donated state, for benchmarks/autograd.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _autograd_work as work_of
import jax
import jax.numpy as jnp
from _autograd_work import Work

tree = jax.tree.map


def prepare(arguments: list[str]) -> tuple[str, Callable[[Work], Callable[[], float]]]:
    makers = {"mlp": mlp, "gpt": gpt, "chain": chain}
    return f"jax {jax.__version__}", lambda work: makers[work.kind](work)


def cross_entropy(logits: Any, target: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], -1).mean()


def stepped(update: Callable[..., Any], state: Any, x: Any, y: Any) -> Callable[[], float]:
    update, held = jax.jit(update, donate_argnums=0), [state]
    x, y = jnp.array(x), jnp.array(y)

    def step() -> float:
        held[0], loss = update(held[0], x, y)
        return float(loss)

    return step


def mlp(work: Work) -> Callable[[], float]:
    weights, (x, y) = work_of.mlp(work)

    def loss(p: Any, x: Any, y: Any) -> Any:
        for i in range(2):
            x = jax.nn.relu(x @ p[f"w{i}"] + p[f"b{i}"])
        return cross_entropy(x @ p["w2"] + p["b2"], y)

    def update(p: Any, x: Any, y: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(p, x, y)
        return tree(lambda p, g: p - work_of.MLP_RATE * g, p, grads), value

    return stepped(update, tree(jnp.array, weights), x, y)


def gpt(work: Work) -> Callable[[], float]:
    weights, (x, y) = work_of.gpt(work)
    batch, positions, heads, d = work.batch, work.positions, work.heads, work.width // work.heads

    def norm(p: Any, name: str, x: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        scale = jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
        return centred * scale * p[name + "_w"] + p[name + "_b"]

    def linear(p: Any, name: str, x: Any) -> Any:
        return x @ p[name + "_w"] + p[name + "_b"]

    def loss(p: Any, x: Any, y: Any) -> Any:
        seen = jnp.tril(jnp.ones((positions, positions), bool))
        h = p["tok"][x] + p["pos"]
        for i in range(work.depth):
            qkv = linear(p, f"{i}.qkv", norm(p, f"{i}.ln1", h)).reshape(batch, positions, 3, heads, d)
            q, k, v = qkv.transpose(2, 0, 3, 1, 4)
            scores = jnp.where(seen, q @ k.swapaxes(-1, -2) * d**-0.5, -jnp.inf)
            out = (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(batch, positions, -1)
            h = h + linear(p, f"{i}.proj", out)
            inner = jax.nn.gelu(linear(p, f"{i}.fc", norm(p, f"{i}.ln2", h)), approximate=True)
            h = h + linear(p, f"{i}.out", inner)
        return cross_entropy(norm(p, "lnf", h) @ p["head"], y)

    def update(state: Any, x: Any, y: Any) -> Any:
        p, m, v, t = state
        value, grads = jax.value_and_grad(loss)(p, x, y)
        t = t + 1
        m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)

        def moved(p: Any, m: Any, v: Any) -> Any:
            return p - work_of.GPT_RATE * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)

        return (tree(moved, p, m, v), m, v, t), value

    p = tree(jnp.array, weights)
    return stepped(update, (p, tree(jnp.zeros_like, p), tree(jnp.zeros_like, p), jnp.float32(0)), x, y)


def chain(work: Work) -> Callable[[], float]:
    start, constant = (jnp.array(a) for a in work_of.chain())
    slope = jax.jit(jax.grad(lambda x, c: work_of.chained(x, c, jnp.tanh, work.length).sum()))
    return lambda: float(slope(start, constant).sum())
