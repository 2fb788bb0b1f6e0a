"""The demos that run in seconds, by name: each is a stepper over something that really ran."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import mlsys_lab.autograd as ag
from mlsys_lab.viz.backward_steps import backward_steps
from mlsys_lab.viz.stepper import Stepper


def autograd() -> Stepper:
    """Backward through tanh(x @ w + b) * x, in which x is used twice and b is broadcast."""
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=shape).round(1).astype(np.float32) for shape in ((2, 2), (2, 2), (2,)))
    return backward_steps(lambda x, w, b: ag.sum(ag.tanh(x @ w + b) * x), x=x, w=w, b=b)


DEMOS: dict[str, Callable[[], Stepper]] = {"autograd": autograd}
