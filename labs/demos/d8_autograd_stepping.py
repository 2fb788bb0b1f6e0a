"""Backward of a small network, a step per operation: write another function and look again.

Run it as `python labs/demos/d8_autograd_stepping.py [FILE]`; `mlsys-lab demo autograd` opens the ready one.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import mlsys_lab.autograd as ag
from mlsys_lab import viz

x = np.float32([[1.0, -0.5], [0.3, 0.8]])  # (2, 2): two inputs
y = np.float32([[1.0], [0.0]])  # (2, 1): what should come out


def loss(w1: Any, w2: Any) -> Any:
    """The squared error of a network of two layers. w1: (2, 3), w2: (3, 1)."""
    return ag.mean(ag.square(ag.relu(x @ w1) @ w2 - y))


rng = np.random.default_rng(0)
w1, w2 = (rng.normal(size=shape).round(1).astype(np.float32) for shape in ((2, 3), (3, 1)))
stepper = viz.backward_steps(loss, w1=w1, w2=w2)

path = sys.argv[1] if len(sys.argv) > 1 else "autograd_stepping.html"
stepper.save(path)
print(stepper.transcript[-1])
print(f"written: {path}")
