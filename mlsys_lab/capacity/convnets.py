"""Convolutional networks as a list of layers: a builder that carries the shape along and writes each weight
down.

Parameters and multiply-adds then follow as for transformers. Strides, paddings and rounding are those of
torchvision 0.29.2, whose published counts (each Weights enum's num_params and _ops) the tests hold this
against.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from mlsys_lab.capacity.models import Counts
from mlsys_lab.capacity.weights import Weight


@dataclass(frozen=True)
class ConvNet(Counts):
    """A network for images.

    Attributes:
        name: as torchvision calls it.
        image: (channels, height, width) of one input.
        listed: its weights, each with the positions that it is multiplied at.
        classes: width of the output.
    """

    name: str
    image: tuple[int, int, int]
    listed: tuple[Weight, ...]
    classes: int

    @property
    def weights(self) -> tuple[Weight, ...]:
        return self.listed

    @cached_property
    def forward_macs(self) -> int:
        """Multiply-adds of one image in convolutions and linear layers, as published counts have them."""
        return sum(w.multiplied * (w.positions or 1) for w in self.listed)


class Net:
    """Builds the list: every call adds a layer and moves the shape on.

    Args:
        image: (channels, height, width).
    """

    def __init__(self, image: tuple[int, int, int]) -> None:
        self.channels, self.height, self.width = image
        self.part = "stem"
        self.weights: list[Weight] = []

    def conv(self, out: int, kernel: int = 1, stride: int = 1, *, pad: int | None = None, groups: int = 1,
             bias: bool = False) -> None:  # fmt: skip
        """A convolution; `pad` by default keeps the size at stride 1."""
        if self.channels % groups or out % groups:
            raise ValueError(f"{self.channels} and {out} channels are not divisible into {groups} groups")
        pad = (kernel - 1) // 2 if pad is None else pad
        self._resize(kernel, stride, pad)
        shape = (out, self.channels // groups, kernel, kernel)
        self._add("conv", shape, multiplies=True, positions=self.height * self.width)
        if bias:
            self._add("bias", (out,))
        self.channels = out

    def norm(self) -> None:
        """Batch norm or layer norm over channels: a scale and a shift."""
        self._add("norm scale", (self.channels,))
        self._add("norm shift", (self.channels,))

    def conv_norm(self, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        self.conv(out, kernel, stride, groups=groups)
        self.norm()

    def scale(self) -> None:
        """A learned factor per channel."""
        self._add("scale", (self.channels,))

    def pool(self, kernel: int, stride: int, pad: int = 0, *, ceil: bool = False) -> None:
        self._resize(kernel, stride, pad, ceil)

    def pool_to(self, side: int) -> None:
        self.height = self.width = side

    def linear(self, out: int) -> None:
        """A linear layer over everything that is left, as one row."""
        self.channels, self.height, self.width = self.channels * self.height * self.width, 1, 1
        self._add("linear", (out, self.channels), multiplies=True, positions=1)
        self._add("bias", (out,))
        self.channels = out

    def squeeze_excite(self, squeezed: int) -> None:
        """A gate per channel from the image's mean (Hu et al. 2018)."""
        for name, shape in (("squeeze", (squeezed, self.channels)), ("excite", (self.channels, squeezed))):
            self._add(name, shape, multiplies=True, positions=1)
            self._add(f"{name} bias", shape[:1])

    def beside(self, branch: Callable[[Net], None]) -> Net:
        """A branch from the current shape: its weights are added here, its shape is returned, ours stays."""
        other = Net((self.channels, self.height, self.width))
        other.part, other.weights = self.part, self.weights
        branch(other)
        return other

    def _add(
        self, name: str, shape: tuple[int, ...], *, multiplies: bool = False, positions: int | None = None
    ) -> None:
        self.weights.append(Weight(self.part, name, shape, multiplies=multiplies, positions=positions))

    def _resize(self, kernel: int, stride: int, pad: int, ceil: bool = False) -> None:
        for side in ("height", "width"):
            span = getattr(self, side) + 2 * pad - kernel
            if span < 0:
                raise ValueError(
                    f"an image of {getattr(self, side)} pixels is smaller than the kernel {kernel}"
                )
            setattr(self, side, (-(-span // stride) if ceil else span // stride) + 1)


def divisible(value: float, by: int = 8) -> int:
    """The multiple of `by` nearest to a number of channels, at most 10 % below it (MobileNet's rule)."""
    rounded = max(by, int(value + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * value else rounded


Architecture = Callable[[Net, int], None]


def _nets() -> dict[str, tuple[Architecture, int]]:
    from mlsys_lab.capacity import classic_nets, mobile_nets

    return {**classic_nets.NETS, **mobile_nets.NETS}


def convnet_names() -> list[str]:
    return list(_nets())


def convnet(name: str, *, image: tuple[int, int, int] | None = None, classes: int = 1000) -> ConvNet:
    """A network by torchvision's name.

    Args:
        name: "resnet50"; see `convnet_names`.
        image: (channels, height, width); by default the one that its published weights were evaluated with.
        classes: of the output layer.

    >>> convnet("resnet50").parameters
    25557032
    """
    nets = _nets()
    if name not in nets:
        near = difflib.get_close_matches(name, nets, n=3, cutoff=0.3) or list(nets)[:3]
        raise ValueError(f"unknown network {name!r}; the nearest are {', '.join(near)}")
    architecture, side = nets[name]
    net = Net(image or (3, side, side))
    architecture(net, classes)
    return ConvNet(name, image or (3, side, side), tuple(net.weights), classes)
