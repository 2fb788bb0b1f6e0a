"""AlexNet, VGG, SqueezeNet, ResNet and its kin, DenseNet, ConvNeXt, by the builder of convnets.py."""

from __future__ import annotations

from functools import partial

from mlsys_lab.capacity.convnets import Architecture, Net


def alexnet(net: Net, classes: int) -> None:
    """Krizhevsky 2014 (arXiv 1404.5997)."""
    net.conv(64, 11, 4, pad=2, bias=True)
    net.pool(3, 2)
    net.conv(192, 5, bias=True)
    net.pool(3, 2)
    for out in (384, 256, 256):
        net.conv(out, 3, bias=True)
    net.pool(3, 2)
    net.pool_to(6)
    net.part = "head"
    for out in (4096, 4096, classes):
        net.linear(out)


def vgg(depths: tuple[int, ...], norm: bool, net: Net, classes: int) -> None:
    """Simonyan and Zisserman 2015 (arXiv 1409.1556), table 1."""
    for i, (depth, out) in enumerate(zip(depths, (64, 128, 256, 512, 512), strict=True), 1):
        net.part = f"stage {i}"
        for _ in range(depth):
            net.conv(out, 3, bias=True)
            if norm:
                net.norm()
        net.pool(2, 2)
    net.pool_to(7)
    net.part = "head"
    for out in (4096, 4096, classes):
        net.linear(out)


def squeezenet(version: str, net: Net, classes: int) -> None:
    """Iandola et al. 2016 (arXiv 1602.07360); 1.1 pools earlier."""
    early = version == "1.1"
    net.conv(64 if early else 96, 3 if early else 7, 2, pad=0, bias=True)
    pools = (0, 2, 4) if early else (0, 3, 7)
    for i, squeezed in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        if i in pools:
            net.pool(3, 2, ceil=True)
        net.part = f"fire {i + 1}"
        net.conv(squeezed, bias=True)
        net.beside(lambda branch, s=squeezed: branch.conv(4 * s, bias=True))  # type: ignore[misc]
        net.conv(4 * squeezed, 3, bias=True)
        net.channels *= 2  # both branches side by side
    net.part = "head"
    net.conv(classes, bias=True)


def resnet(
    depths: tuple[int, ...], bottleneck: bool, net: Net, classes: int, *, groups: int = 1, base: int = 64
) -> None:
    """He et al. 2016 (arXiv 1512.03385), strides in the 3x3; ResNeXt by groups, wide ones by base."""
    net.conv_norm(64, 7, 2)
    net.pool(3, 2, 1)
    for i, depth in enumerate(depths):
        net.part = f"stage {i + 1}"
        planes, out = 64 << i, (256 if bottleneck else 64) << i
        inner = planes * base // 64 * groups if bottleneck else planes
        for block in range(depth):
            stride = 2 if i and not block else 1
            if stride > 1 or net.channels != out:
                net.beside(lambda branch, o=out, s=stride: branch.conv_norm(o, 1, s))  # type: ignore[misc]
            if bottleneck:
                net.conv_norm(inner)
                net.conv_norm(inner, 3, stride, groups)
                net.conv_norm(out)
            else:
                net.conv_norm(planes, 3, stride)
                net.conv_norm(planes, 3)
    net.pool_to(1)
    net.part = "head"
    net.linear(classes)


def densenet(depths: tuple[int, ...], growth: int, first: int, net: Net, classes: int) -> None:
    """Huang et al. 2017 (arXiv 1608.06993)."""

    def layer(branch: Net) -> None:
        branch.norm()
        branch.conv(4 * growth)
        branch.norm()
        branch.conv(growth, 3)

    net.conv_norm(first, 7, 2)
    net.pool(3, 2, 1)
    for i, depth in enumerate(depths):
        net.part = f"block {i + 1}"
        for _ in range(depth):
            net.beside(layer)
            net.channels += growth
        if i + 1 < len(depths):
            net.norm()
            net.conv(net.channels // 2)
            net.pool(2, 2)
    net.norm()
    net.pool_to(1)
    net.part = "head"
    net.linear(classes)


def convnext(depths: tuple[int, ...], first: int, net: Net, classes: int) -> None:
    """Liu et al. 2022 (arXiv 2201.03545)."""
    net.conv(first, 4, 4, pad=0, bias=True)
    net.norm()
    for i, depth in enumerate(depths):
        net.part = f"stage {i + 1}"
        for _ in range(depth):
            out = net.channels
            net.conv(out, 7, groups=out, bias=True)
            net.norm()
            net.conv(4 * out, bias=True)
            net.conv(out, bias=True)
            net.scale()
        if i + 1 < len(depths):
            net.norm()
            net.conv(2 * net.channels, 2, 2, pad=0, bias=True)
    net.pool_to(1)
    net.part = "head"
    net.norm()
    net.linear(classes)


_VGG = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}

#: Name: how it is built, and the side of the image that its published figures are for.
NETS: dict[str, tuple[Architecture, int]] = {
    "alexnet": (alexnet, 224),
    **{name: (partial(vgg, depths, False), 224) for name, depths in _VGG.items()},
    **{f"{name}_bn": (partial(vgg, depths, True), 224) for name, depths in _VGG.items()},
    "squeezenet1_0": (partial(squeezenet, "1.0"), 224),
    "squeezenet1_1": (partial(squeezenet, "1.1"), 224),
    "resnet18": (partial(resnet, (2, 2, 2, 2), False), 224),
    "resnet34": (partial(resnet, (3, 4, 6, 3), False), 224),
    "resnet50": (partial(resnet, (3, 4, 6, 3), True), 224),
    "resnet101": (partial(resnet, (3, 4, 23, 3), True), 224),
    "resnet152": (partial(resnet, (3, 8, 36, 3), True), 224),
    "resnext50_32x4d": (partial(resnet, (3, 4, 6, 3), True, groups=32, base=4), 224),
    "resnext101_32x8d": (partial(resnet, (3, 4, 23, 3), True, groups=32, base=8), 224),
    "wide_resnet50_2": (partial(resnet, (3, 4, 6, 3), True, base=128), 224),
    "wide_resnet101_2": (partial(resnet, (3, 4, 23, 3), True, base=128), 224),
    "densenet121": (partial(densenet, (6, 12, 24, 16), 32, 64), 224),
    "densenet161": (partial(densenet, (6, 12, 36, 24), 48, 96), 224),
    "densenet169": (partial(densenet, (6, 12, 32, 32), 32, 64), 224),
    "densenet201": (partial(densenet, (6, 12, 48, 32), 32, 64), 224),
    "convnext_tiny": (partial(convnext, (3, 3, 9, 3), 96), 224),
    "convnext_small": (partial(convnext, (3, 3, 27, 3), 96), 224),
    "convnext_base": (partial(convnext, (3, 3, 27, 3), 128), 224),
    "convnext_large": (partial(convnext, (3, 3, 27, 3), 192), 224),
}
