"""MobileNet V2 and V3, EfficientNet and its V2, MNASNet: inverted residuals, built by convnets.py."""

from __future__ import annotations

import math
from functools import partial

from mlsys_lab.capacity.convnets import Architecture, Net, divisible


def inverted(net: Net, expanded: int, out: int, kernel: int, stride: int, squeezed: int = 0) -> None:
    """Expand with 1x1, filter each channel, gate, project back."""
    if expanded != net.channels:
        net.conv_norm(expanded)
    net.conv_norm(expanded, kernel, stride, groups=expanded)
    if squeezed:
        net.squeeze_excite(squeezed)
    net.conv_norm(out)


def mobilenet_v2(net: Net, classes: int) -> None:
    """Sandler et al. 2018 (arXiv 1801.04381), table 2."""
    net.conv_norm(32, 3, 2)
    stages = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    for i, (factor, out, depth, stride) in enumerate(stages, 1):
        net.part = f"stage {i}"
        for block in range(depth):
            inverted(net, factor * net.channels, out, 3, 1 if block else stride)
    net.part = "head"
    net.conv_norm(1280)
    net.pool_to(1)
    net.linear(classes)


# kernel, expanded, out, squeeze-and-excite, stride (Howard et al. 2019, arXiv 1905.02244, tables 1 and 2)
_LARGE = (
    *((3, 16, 16, 0, 1), (3, 64, 24, 0, 2), (3, 72, 24, 0, 1), (5, 72, 40, 1, 2), (5, 120, 40, 1, 1)),
    *((5, 120, 40, 1, 1), (3, 240, 80, 0, 2), (3, 200, 80, 0, 1), (3, 184, 80, 0, 1), (3, 184, 80, 0, 1)),
    *(
        (3, 480, 112, 1, 1),
        (3, 672, 112, 1, 1),
        (5, 672, 160, 1, 2),
        (5, 960, 160, 1, 1),
        (5, 960, 160, 1, 1),
    ),
)
_SMALL = (
    *((3, 16, 16, 1, 2), (3, 72, 24, 0, 2), (3, 88, 24, 0, 1), (5, 96, 40, 1, 2), (5, 240, 40, 1, 1)),
    *((5, 240, 40, 1, 1), (5, 120, 48, 1, 1), (5, 144, 48, 1, 1), (5, 288, 96, 1, 2), (5, 576, 96, 1, 1)),
    (5, 576, 96, 1, 1),
)


def mobilenet_v3(rows: tuple[tuple[int, ...], ...], last: int, net: Net, classes: int) -> None:
    net.conv_norm(16, 3, 2)
    for i, (kernel, expanded, out, gate, stride) in enumerate(rows, 1):
        net.part = f"block {i}"
        inverted(net, expanded, out, kernel, stride, divisible(expanded / 4) if gate else 0)
    net.part = "head"
    net.conv_norm(6 * net.channels)
    net.pool_to(1)
    net.linear(last)
    net.linear(classes)


def mnasnet(alpha: float, net: Net, classes: int) -> None:
    """Tan et al. 2019 (arXiv 1807.11626), the variant without gates."""

    def scaled(channels: int) -> int:
        return divisible(channels * alpha)

    net.conv_norm(scaled(32), 3, 2)
    net.conv_norm(net.channels, 3, groups=net.channels)
    net.conv_norm(scaled(16))
    rows = (
        (3, 24, 3, 3, 2),
        (5, 40, 3, 3, 2),
        (5, 80, 3, 6, 2),
        (3, 96, 2, 6, 1),
        (5, 192, 4, 6, 2),
        (3, 320, 1, 6, 1),
    )
    for i, (kernel, out, depth, factor, stride) in enumerate(rows, 1):
        net.part = f"stage {i}"
        for block in range(depth):
            inverted(net, factor * net.channels, scaled(out), kernel, 1 if block else stride)
    net.part = "head"
    net.conv_norm(1280)
    net.pool_to(1)
    net.linear(classes)


def efficientnet(wider: float, deeper: float, net: Net, classes: int) -> None:
    """Tan and Le 2019 (arXiv 1905.11946), table 1 scaled in width and depth."""
    net.conv_norm(divisible(32 * wider), 3, 2)
    rows = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3),
            (6, 5, 2, 192, 4), (6, 3, 1, 320, 1))  # fmt: skip
    for i, (factor, kernel, stride, out, depth) in enumerate(rows, 1):
        net.part = f"stage {i}"
        for block in range(math.ceil(depth * deeper)):
            expanded, squeezed = divisible(net.channels * factor), max(1, net.channels // 4)
            inverted(net, expanded, divisible(out * wider), kernel, 1 if block else stride, squeezed)
    net.part = "head"
    net.conv_norm(4 * net.channels)
    net.pool_to(1)
    net.linear(classes)


# fused, factor, kernel, stride, out, depth (Tan and Le 2021, arXiv 2104.00298, table 4 and the authors' code)
_V2S = ((1, 1, 3, 1, 24, 2), (1, 4, 3, 2, 48, 4), (1, 4, 3, 2, 64, 4), (0, 4, 3, 2, 128, 6),
        (0, 6, 3, 1, 160, 9), (0, 6, 3, 2, 256, 15))  # fmt: skip
_V2M = ((1, 1, 3, 1, 24, 3), (1, 4, 3, 2, 48, 5), (1, 4, 3, 2, 80, 5), (0, 4, 3, 2, 160, 7),
        (0, 6, 3, 1, 176, 14), (0, 6, 3, 2, 304, 18), (0, 6, 3, 1, 512, 5))  # fmt: skip
_V2L = ((1, 1, 3, 1, 32, 4), (1, 4, 3, 2, 64, 7), (1, 4, 3, 2, 96, 7), (0, 4, 3, 2, 192, 10),
        (0, 6, 3, 1, 224, 19), (0, 6, 3, 2, 384, 25), (0, 6, 3, 1, 640, 7))  # fmt: skip


def efficientnet_v2(rows: tuple[tuple[int, ...], ...], net: Net, classes: int) -> None:
    net.conv_norm(rows[0][4], 3, 2)
    for i, (fused, factor, kernel, first, out, depth) in enumerate(rows, 1):
        net.part = f"stage {i}"
        for block in range(depth):
            stride = 1 if block else first
            expanded, squeezed = divisible(net.channels * factor), max(1, net.channels // 4)
            if not fused:
                inverted(net, expanded, out, kernel, stride, squeezed)
            elif factor == 1:
                net.conv_norm(out, kernel, stride)
            else:
                net.conv_norm(expanded, kernel, stride)
                net.conv_norm(out)
    net.part = "head"
    net.conv_norm(1280)
    net.pool_to(1)
    net.linear(classes)


_SCALES = ((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 288), (1.2, 1.4, 300), (1.4, 1.8, 380),
           (1.6, 2.2, 456), (1.8, 2.6, 528), (2.0, 3.1, 600))  # fmt: skip

#: Name: how it is built, and the side of the image that its published figures are for.
NETS: dict[str, tuple[Architecture, int]] = {
    "mobilenet_v2": (mobilenet_v2, 224),
    "mobilenet_v3_large": (partial(mobilenet_v3, _LARGE, 1280), 224),
    "mobilenet_v3_small": (partial(mobilenet_v3, _SMALL, 1024), 224),
    **{f"efficientnet_b{i}": (partial(efficientnet, w, d), side) for i, (w, d, side) in enumerate(_SCALES)},
    "efficientnet_v2_s": (partial(efficientnet_v2, _V2S), 384),
    "efficientnet_v2_m": (partial(efficientnet_v2, _V2M), 480),
    "efficientnet_v2_l": (partial(efficientnet_v2, _V2L), 480),
    "mnasnet0_5": (partial(mnasnet, 0.5), 224),
    "mnasnet0_75": (partial(mnasnet, 0.75), 224),
    "mnasnet1_0": (partial(mnasnet, 1.0), 224),
    "mnasnet1_3": (partial(mnasnet, 1.3), 224),
}
