"""Gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mlsys_lab.autograd.tensor import Tensor
from mlsys_lab.autograd.transforms import grad, tensors


def gradcheck(
    fn: Callable[..., Any], inputs: Tensor | Sequence[Tensor], *,
    eps: float = 1e-6, rtol: float = 1e-4, atol: float = 1e-6,
) -> bool:  # fmt: skip
    """Compare fn's gradients with central differences, in float64, under a non-uniform upstream gradient.

    Args:
        fn: makes one tensor of the inputs.
        inputs: tensors; those of integers stay as they are.
        eps: the step of the difference.
        rtol, atol: how far a gradient may lie from the difference.

    Returns:
        True.

    Raises:
        AssertionError: an element lies farther away; names the input, the element and both values.
    """
    inputs = tensors(inputs, "gradcheck")
    xs = [
        Tensor(x.data.astype(np.float64), requires_grad=True) if x.dtype.kind not in "iub" else x
        for x in inputs
    ]
    y = fn(*xs)
    upstream = np.cos(np.arange(y.size, dtype=np.float64)).reshape(y.shape) + 1.5
    asked = [x for x in xs if x.requires_grad]
    for x, g in zip(asked, grad(y, asked, upstream, allow_unused=True), strict=True):
        for place in np.ndindex(x.shape):
            kept = x.data[place]
            ends = []
            for step in (eps, -eps):
                x.data[place] = kept + step
                ends.append(float((fn(*xs).data * upstream).sum()))
            x.data[place] = kept
            numeric, ours = (ends[0] - ends[1]) / (2 * eps), float(g.data[place])
            if not abs(numeric - ours) <= atol + rtol * abs(numeric):
                which = next(i for i, one in enumerate(xs) if one is x)
                raise AssertionError(
                    f"input {which}, element {place}: the rule gives {ours}, differences {numeric}"
                )
    return True
