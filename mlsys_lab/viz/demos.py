"""The demos that run in seconds, by name: each is a stepper over something that really ran."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import mlsys_lab.autograd as ag
from mlsys_lab import nn
from mlsys_lab.viz.attention_steps import attention_steps
from mlsys_lab.viz.backward_steps import backward_steps
from mlsys_lab.viz.roof_steps import roof_steps
from mlsys_lab.viz.stepper import Stepper
from mlsys_lab.viz.warp_steps import warp_steps


def attention() -> Stepper:
    """Attention by tiles: running maximum, sum and mix, and the bytes moved (D7)."""
    rng = np.random.default_rng(3)
    layer = nn.MultiHeadAttention(4, 1, generator=rng)
    x = ag.Tensor(rng.normal(scale=1.5, size=(1, 8, 4)).astype(np.float32))  # eight positions, 4 wide
    q, k, v = np.split(layer.c_attn(x).numpy()[0], 3, axis=1)  # (8, 4) each
    return attention_steps(q, k, v, rows=4, columns=2)


def autograd() -> Stepper:
    """Backward through tanh(x @ w + b) * x: x is used twice, b is broadcast (D8)."""
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=shape).round(1).astype(np.float32) for shape in ((2, 2), (2, 2), (2,)))
    return backward_steps(lambda x, w, b: ag.sum(ag.tanh(x @ w + b) * x), x=x, w=w, b=b)


def roofline() -> Stepper:
    """A language model's operations under an H100's roof: which bound each meets, what moves it (D3)."""
    return roof_steps()


def warp() -> Stepper:
    """A warp steps: sectors, banks, a reduction tree, warps that take turns (D2)."""
    return warp_steps()


DEMOS: dict[str, Callable[[], Stepper]] = {
    "attention": attention,
    "autograd": autograd,
    "roofline": roofline,
    "warp": warp,
}
