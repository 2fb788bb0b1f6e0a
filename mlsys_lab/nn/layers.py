"""Layers with torch.nn's names, arguments, parameters and first values.

`generator` is where first values and dropout masks are drawn from; without one, the generator that
`manual_seed` made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mlsys_lab import autograd as ag
from mlsys_lab.nn import functional as F
from mlsys_lab.nn import init
from mlsys_lab.nn.module import Module, ModuleList, Parameter


def empty(*shape: int) -> Parameter:
    return Parameter(np.empty(shape, np.float32))


class Linear(Module):
    """x weightT + bias: (..., in_features) -> (..., out_features)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *,
                 generator: init.Generator | None = None) -> None:  # fmt: skip
        self.in_features, self.out_features = in_features, out_features
        self.weight = init.kaiming_uniform_(empty(out_features, in_features), math.sqrt(5), generator)
        bound = 1 / math.sqrt(max(in_features, 1))
        self.bias = init.uniform_(empty(out_features), -bound, bound, generator) if bias else None

    def forward(self, x: Any, residual: Any = None) -> Any:
        return F.linear(x, self.weight, self.bias, residual)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Conv2d(Module):
    """(N, in_channels, H, W) -> (N, out_channels, Ho, Wo)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1,
                 padding: Any = 0, dilation: Any = 1, groups: int = 1, bias: bool = True, *,
                 generator: init.Generator | None = None) -> None:  # fmt: skip
        window = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        self.options = (stride, padding, dilation, groups)
        self.weight = empty(out_channels, in_channels // groups, *window)
        init.kaiming_uniform_(self.weight, math.sqrt(5), generator)
        bound = 1 / math.sqrt(init.fans(self.weight)[0])
        self.bias = init.uniform_(empty(out_channels), -bound, bound, generator) if bias else None

    def forward(self, x: Any) -> Any:
        return F.conv2d(x, self.weight, self.bias, *self.options)


class Embedding(Module):
    """Rows of a table: integers (...) -> (..., embedding_dim)."""

    def __init__(self, num_embeddings: int, embedding_dim: int, *,
                 generator: init.Generator | None = None) -> None:  # fmt: skip
        self.weight = init.normal_(empty(num_embeddings, embedding_dim), generator=generator)

    def forward(self, indices: Any) -> Any:
        return F.embedding(indices, self.weight)


class LayerNorm(Module):
    """Over the last axis, of length normalized_shape."""

    def __init__(self, normalized_shape: int, eps: float = 1e-5) -> None:
        self.normalized_shape, self.eps = normalized_shape, eps
        self.weight, self.bias = init.ones_(empty(normalized_shape)), init.zeros_(empty(normalized_shape))

    def forward(self, x: Any) -> Any:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(Module):
    """Over the last axis, of length normalized_shape; torch's eps is given as 1.19e-7 for float32."""

    def __init__(self, normalized_shape: int, eps: float = 1e-5) -> None:
        self.normalized_shape, self.eps = normalized_shape, eps
        self.weight = init.ones_(empty(normalized_shape))

    def forward(self, x: Any) -> Any:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)


class Dropout(Module):
    """Zeroes elements with probability p while training."""

    def __init__(self, p: float = 0.5, *, generator: init.Generator | None = None) -> None:
        self.p, self.generator = F.probability(p), generator

    def forward(self, x: Any) -> Any:
        return F.dropout(x, self.p, self.training, self.generator)


class ReLU(Module):
    def forward(self, x: Any) -> Any:
        return F.relu(x)

    def after(self, x: Any, bias: Any) -> Any:
        """Of x + bias, in one pass."""
        return ag.bias_relu(x, bias)


class GELU(Module):
    """approximate: "none" or "tanh"."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        return F.gelu(x, self.approximate)

    def after(self, x: Any, bias: Any) -> Any:
        """Of x + bias, in one pass."""
        return ag.bias_gelu(x, bias, self.approximate)


def of_function(name: str, function: Callable[[Any], Any]) -> type[Module]:
    """A module without parameters."""
    return type(name, (Module,), {"__doc__": function.__doc__, "forward": lambda self, x: function(x)})


SiLU, Sigmoid, Tanh = map(of_function, ("SiLU", "Sigmoid", "Tanh"), (F.silu, F.sigmoid, F.tanh))
Flatten = of_function("Flatten", lambda x: x.reshape(x.shape[0], -1))


class MaxPool2d(Module):
    """The largest element under each window."""

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        self.options = (kernel_size, stride, padding)

    def forward(self, x: Any) -> Any:
        return F.max_pool2d(x, *self.options)


def activated(linear: Module, activation: Any, x: Any) -> Any:
    """activation(linear(x)), with the bias added in the activation's own pass."""
    if type(linear) is not Linear or linear.bias is None:
        return activation(linear(x))
    return activation.after(F.linear(x, linear.weight), *F.narrowed(linear.bias))


class Sequential(ModuleList):
    """One module after the other; a Linear and its activation run fused."""

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        waiting: Linear | None = None
        for module in vars(self).values():
            if not isinstance(module, Module):
                continue
            if waiting is not None:
                x = activated(waiting, module, x) if hasattr(module, "after") else module(waiting(x))
                waiting = None
            elif type(module) is Linear:
                waiting = module
            else:
                x = module(x)
        return x if waiting is None else waiting(x)
