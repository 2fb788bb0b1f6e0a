"""Parameters laid end to end in one flat array, of which each parameter's data is a view.

What touches every parameter then touches one array: an optimiser's step, a bucket that is reduced between
workers, a checkpoint. The idea is DeepSpeed's and Megatron-LM's contiguous parameter buffer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

Array = Any


class Parameter(Protocol):
    """What an optimiser needs of a parameter: the engine's Tensor is one."""

    data: Array
    grad: Any  # something with .data, or None


class Arena:
    """A flat array that holds the parameters' values.

    Args:
        parameters: of one floating-point type. Their data moves here: `p.data` becomes a view.

    Attributes:
        data: (size,), all values in the parameters' order.
        views: each parameter's part of it, in its own shape.

    Raises:
        ValueError: no parameters, or several types.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError("an arena needs at least one parameter, got none")
        dtypes = {p.data.dtype for p in self.parameters}
        if len(dtypes) > 1:
            names = ", ".join(sorted(map(str, dtypes)))
            raise ValueError(f"an arena holds one type, got {names}: make one arena per type")
        ends = np.cumsum([p.data.size for p in self.parameters]).tolist()
        self.spans = [slice(e - p.data.size, e) for e, p in zip(ends, self.parameters, strict=True)]
        self.data = self.buffer()
        self.views = self.split(self.data)
        self.adopt()

    def buffer(self) -> Array:
        """A flat array of zeros as long as the arena, on the same device: for moments or gradients."""
        return np.zeros_like(self.parameters[0].data, shape=(self.spans[-1].stop,))

    def split(self, flat: Array) -> list[Array]:
        """A flat array's views in the parameters' shapes."""
        return [flat[s].reshape(p.data.shape) for s, p in zip(self.spans, self.parameters, strict=True)]

    def adopt(self) -> None:
        """Take in the values of parameters whose data was replaced, and make it a view again.

        Raises:
            ValueError: a parameter that has another shape by now.
        """
        for p, view in zip(self.parameters, self.views, strict=True):
            if p.data is view:
                continue
            if p.data.shape != view.shape:
                raise ValueError(
                    f"a parameter of shape {view.shape} became {p.data.shape}: make a new optimiser"
                )
            view[...] = p.data
            p.data = view

    def gather(self, flat: Array | None = None) -> Array:
        """Copy the gradients into one flat array, zeros where a parameter has none.

        Args:
            flat: where to; a new buffer unless given.

        Returns:
            (size,) in the parameters' order and type.
        """
        flat = self.buffer() if flat is None else flat
        for p, span in zip(self.parameters, self.spans, strict=True):
            flat[span] = 0 if p.grad is None else p.grad.data.reshape(-1)
        return flat

    def stretches(self) -> Iterator[tuple[int, int, Array]]:
        """Neighbouring parameters whose gradients lie side by side in memory, as one stretch.

        Yields:
            The first parameter's number, the number after the last one's, and their flat gradient. Parameters
            without a gradient are left out.
        """
        first = 0
        run: list[Array] = []
        for i, p in enumerate(self.parameters):
            gradient = None if p.grad is None else self._flat_gradient(p)
            if run and (gradient is None or not _follows(run[-1], gradient)):
                yield first, i, _joined(run)
                run = []
            if gradient is not None:
                first = first if run else i
                run.append(gradient)
        if run:
            yield first, len(self.parameters), _joined(run)

    def _flat_gradient(self, p: Parameter) -> Array:
        gradient = p.grad.data
        if gradient.shape != p.data.shape:
            raise ValueError(f"a parameter of shape {p.data.shape} has a gradient of shape {gradient.shape}")
        return np.ascontiguousarray(gradient.reshape(-1), dtype=self.data.dtype)


def _follows(left: Array, right: Array) -> bool:
    """Whether right begins in memory where left ends, in the same flat array."""
    return (
        isinstance(left, np.ndarray)
        and left.base is not None
        and left.base is right.base
        and left.base.ndim == 1
        and left.base.flags.c_contiguous
        and left.ctypes.data + left.nbytes == right.ctypes.data
    )


def _joined(run: list[Array]) -> Array:
    if len(run) == 1:
        return run[0]
    base = run[0].base
    start = (run[0].ctypes.data - base.ctypes.data) // base.itemsize
    return base[start : start + sum(part.size for part in run)]
