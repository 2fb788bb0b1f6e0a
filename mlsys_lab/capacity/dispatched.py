"""The operations of a training step: what each computes and moves, without running it.

FLOPs count a multiplication and an addition as two. What torch's own counter leaves out on a CPU, attention,
is counted as its kernels do it: two products forward, five backward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mlsys_lab.capacity.fake import Step, copies, known_tensors_only, plain_step


@dataclass(frozen=True)
class Operation:
    """One call of an operation of torch.

    Attributes:
        name: `aten::mm`.
        shapes: of its tensors, in order.
        strides: likewise.
        dtypes: likewise.
        flops: multiplications and additions of its products; 0 for all else.
        bytes: of its inputs and outputs, each once.
        options: its numbers and truth values.
        read: of each block of memory that it reads, a number for the block and how many bytes.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    flops: int
    bytes: int
    options: tuple[Any, ...] = ()
    read: tuple[tuple[int, int], ...] = ()


def operations_of(
    module: torch.nn.Module, inputs: Any, optimizer: Any = None, *, step: Step | None = None
) -> list[Operation]:
    """All operations of the second training step, in order.

    Args:
        module: torch's; on the CPU, or on "meta".
        inputs: as `trace` takes them.
        optimizer: torch's, of the module's parameters; None stops after backward.
        step: `step(module, inputs, optimizer)`; see `trace`.
    """
    fake, model, given, update = copies(module, inputs, optimizer)
    recorder = Recorder()
    with known_tensors_only(), fake, recorder:
        for _ in range(2):
            recorder.seen.clear()
            (step or plain_step)(model, given, update)
    return recorder.seen


class Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Operation] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name
        if name == "aten::_local_scalar_dense":
            return 1.0 if args[0].is_floating_point() else args[0].dtype == torch.bool or 1
        out = function(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs))
        tensors = [t for t in leaves if isinstance(t, torch.Tensor)]
        made = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        if not _is_view(function, made, tensors):
            seen = {id(t): t.numel() * t.element_size() for t in (*tensors, *made)}
            self.seen.append(
                Operation(
                    name,
                    tuple(tuple(t.shape) for t in tensors),
                    tuple(t.stride() for t in tensors),
                    tuple(t.dtype for t in tensors),
                    flops(name, tensors, args),
                    sum(seen.values()),
                    tuple(v for v in leaves if isinstance(v, bool | int | float)),
                    tuple((t.untyped_storage()._cdata, t.numel() * t.element_size()) for t in tensors),
                )
            )
        return out


def _is_view(function: Any, made: list[Any], tensors: list[Any]) -> bool:
    """Nothing is computed or moved: the output is a look at an input's memory."""
    if not made or not tensors or function._schema.is_mutable:
        return not made and not function._schema.is_mutable
    there = {t.untyped_storage()._cdata for t in tensors}
    return all(t.untyped_storage()._cdata in there for t in made)


def flops(name: str, tensors: list[Any], args: Any) -> int:
    """Multiplications and additions of an operation's products.

    Args:
        name: `aten::mm`.
        tensors: its tensors, in order.
        args: all its arguments, in order.
    """
    shape = [tuple(t.shape) for t in tensors]
    if name == "aten::mm":
        return 2 * math.prod(shape[0]) * shape[1][1]
    if name == "aten::addmm":
        return 2 * math.prod(shape[1]) * shape[2][1]
    if name == "aten::bmm":
        return 2 * math.prod(shape[0]) * shape[1][2]
    if name == "aten::baddbmm":
        return 2 * math.prod(shape[1]) * shape[2][2]
    if name == "aten::convolution":
        return _convolution(shape[1], shape[0], args[4], args[3], args[5], bool(args[6]), args[8])
    if name == "aten::convolution_backward":
        given, image, weight = shape[:3]
        pixels = math.prod(image[2:] if args[7] else given[2:])
        return sum(args[10][:2]) * 2 * image[0] * pixels * math.prod(weight)
    if name.startswith("aten::_scaled_dot_product") and "attention" in name:
        backward = "backward" in name
        query, key, value = shape[1:4] if backward else shape[:3]
        one = 2 * math.prod(query[:3]) * key[2]
        return one * (3 * query[3] + 2 * value[3]) if backward else one * (query[3] + value[3])
    return 0


def _convolution(
    weight: tuple[int, ...], image: tuple[int, ...], padding: Any, stride: Any, dilation: Any,
    transposed: bool, groups: int,
) -> int:  # fmt: skip
    if transposed:
        return 2 * image[0] * math.prod(image[2:]) * math.prod(weight)
    out = [
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, p, s, d in zip(image[2:], weight[2:], padding, stride, dilation, strict=True)
    ]
    return 2 * image[0] * math.prod(out) * math.prod(weight)
