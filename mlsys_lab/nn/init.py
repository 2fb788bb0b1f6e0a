"""First values of parameters, with torch.nn.init's names: they fill a tensor in place and return it."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np

from mlsys_lab.autograd import Tensor, note_change

Generator = np.random.Generator
T = TypeVar("T", bound=Tensor)
shared: list[Generator] = []


def manual_seed(seed: int | None) -> Generator:
    """Seed the generator that layers draw from when they were given none."""
    shared[:] = [np.random.default_rng(seed)]
    return shared[0]


def drawn_from(generator: Generator | None) -> Generator:
    """The given generator, or the shared one."""
    return generator or (shared[0] if shared else manual_seed(None))


def fill(tensor: T, values: Any) -> T:
    tensor.data[...] = values
    note_change(tensor.data)
    return tensor


def zeros_(tensor: T) -> T:
    return fill(tensor, 0)


def ones_(tensor: T) -> T:
    return fill(tensor, 1)


def uniform_(tensor: T, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> T:
    return fill(tensor, drawn_from(generator).uniform(a, b, tensor.shape))


def normal_(tensor: T, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> T:
    return fill(tensor, drawn_from(generator).normal(mean, std, tensor.shape))


def fans(tensor: Tensor) -> tuple[int, int]:
    """How many inputs and outputs an element of a weight (out, in, ...) has."""
    field = math.prod(tensor.shape[2:])
    return max(tensor.shape[1] * field, 1), max(tensor.shape[0] * field, 1)


def kaiming_uniform_(tensor: T, a: float = 0.0, generator: Generator | None = None) -> T:
    """He et al. 2015, for ReLU with negative slope a."""
    bound = math.sqrt(6 / ((1 + a * a) * fans(tensor)[0]))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor: T, a: float = 0.0, generator: Generator | None = None) -> T:
    return normal_(tensor, 0.0, math.sqrt(2 / ((1 + a * a) * fans(tensor)[0])), generator)


def xavier_uniform_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """Glorot and Bengio 2010."""
    bound = gain * math.sqrt(6 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fans(tensor))), generator)
