"""Classes of operations that cost alike: which one an operation belongs to, by which sizes, in which unit.

A product's cost depends on its three sizes and on which factors lie transposed; a convolution's on channels
and pixels; a normalisation's on rows and columns; all else on the number of elements.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mlsys_lab.capacity.dispatched import Operation


class Kind(NamedTuple):
    """What an operation is to the machine.

    Attributes:
        name: of the class.
        sizes: that its cost depends on.
        units: FLOPs of a product, else bytes.
    """

    name: str
    sizes: tuple[int, ...]
    units: int


PRODUCTS = {"aten::mm": 0, "aten::addmm": 1, "aten::bmm": 0, "aten::baddbmm": 1}
ROWS = {
    "aten::native_layer_norm": 0,
    "aten::native_layer_norm_backward": 0,
    "aten::_softmax": 0,
    "aten::_softmax_backward_data": 0,
    "aten::_log_softmax": 0,
    "aten::_log_softmax_backward_data": 0,
    "aten::nll_loss_backward": 1,
}
CHANNELS = ("aten::native_batch_norm", "aten::native_batch_norm_backward")


def kind(o: Operation) -> Kind:
    """The class of an operation."""
    if o.name in PRODUCTS:
        first = PRODUCTS[o.name]
        a, b = o.shapes[first : first + 2]
        ways = "".join(_way(o.strides[i][-2:]) for i in (first, first + 1))
        return Kind(f"product {ways}", (a[-2], b[-1], a[-1]), o.flops)
    if o.name.startswith("aten::_scaled_dot_product") and "attention" in o.name:
        back = "backward" in o.name
        query = o.shapes[1 if back else 0]
        causal = "causal" if True in o.options else "full"
        return Kind(f"attention {causal}{' backward' if back else ''}", (query[-2], query[-1]), o.flops)
    if o.name in ("aten::convolution", "aten::convolution_backward"):
        back = o.name.endswith("backward")
        weight = o.shapes[2 if back else 1]
        of = o.shapes[0]  # the image, or the gradient of the output
        point = "1x1" if math.prod(weight[2:]) == 1 else "3x3"
        first = back and o.flops < 1.5 * 2 * math.prod(of[:1] + of[2:]) * math.prod(weight)
        pixels = max(o.flops // (2 * math.prod(weight) * (1 if first or not back else 2)), 1)
        name = f"convolution {point}{' backward' if back else ''}{', first' if first else ''}"
        inside, outside = (n if n < 8 else -(-n // 16) * 16 for n in (weight[1], weight[0]))
        padded = o.flops * inside * outside // (weight[1] * weight[0])
        return Kind(name, (inside, outside, pixels), padded)  # oneDNN's blocks hold 16 channels
    if o.name in ROWS:
        shape = o.shapes[ROWS[o.name]]
        return Kind(o.name, (max(math.prod(shape[:-1]), 1), shape[-1]), o.bytes)
    if o.name in CHANNELS:
        shape = o.shapes[0]
        return Kind(o.name, (shape[1], math.prod(shape) // shape[1]), o.bytes)
    if o.name == "aten::sum" and o.shapes and len(o.shapes[0]) >= 2 and 0 in o.options:
        shape = o.shapes[0]
        return Kind("aten::sum over rows", (math.prod(shape[:-1]), shape[-1]), o.bytes)
    most = max((math.prod(s) for s in o.shapes), default=1)
    return Kind(o.name, (max(most, 1),), max(o.bytes, 4))


def _way(strides: tuple[int, ...]) -> str:
    return "T" if len(strides) == 2 and strides[0] == 1 and strides[1] > 1 else "N"
