"""Copies of a training step's objects whose tensors have shapes and no memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map

Step = Callable[[Any, Any, Any], None]


@contextmanager
def known_tensors_only() -> Iterator[None]:
    """Say in one line what torch says in ten where a step uses a tensor that nobody handed over.

    Raises:
        ValueError: it does.
    """
    try:
        yield
    except AssertionError as error:
        if "convert all Tensors to FakeTensors" not in str(error):
            raise
        text = (
            "the step uses a tensor that is neither the module's nor among the inputs: add it to the inputs"
        )
        raise ValueError(text) from None


def plain_step(model: Any, inputs: Any, optimizer: Any) -> None:
    """Forward, backward of the output's sum (of itself where it is a scalar), optimiser, zero_grad."""
    if isinstance(inputs, dict):
        out = model(**inputs)
    else:
        out = model(*inputs) if isinstance(inputs, list | tuple) else model(inputs)
    loss = next(t for t in tree_leaves(out) if isinstance(t, torch.Tensor))
    del out
    (loss if loss.dim() == 0 else loss.sum()).backward()
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad()


def copies(module: Any, inputs: Any, optimizer: Any) -> tuple[FakeTensorMode, Any, Any, Any]:
    """The same objects with fake tensors on the CPU; tied weights stay tied, an optimiser keeps its own.

    Returns:
        The mode in which they compute, and the copies of the module, the inputs and the optimiser.
    """
    fake = FakeTensorMode()
    made: dict[int, Any] = {}

    def stand_in(tensor: torch.Tensor) -> Any:
        if id(tensor) not in made:
            with fake:
                empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
            if isinstance(tensor, torch.nn.Parameter):
                empty = torch.nn.Parameter(empty, tensor.requires_grad)
            else:
                empty.requires_grad_(tensor.requires_grad)
            made[id(tensor)] = empty
        return made[id(tensor)]

    tensors = [*module.parameters(), *module.buffers()]
    if optimizer is not None:
        tensors += [p for group in optimizer.param_groups for p in group["params"]]
        tensors += [t for t in tree_leaves(list(optimizer.state.values())) if isinstance(t, torch.Tensor)]
    memo = {id(t): stand_in(t) for t in tensors}
    given = tree_map(lambda t: stand_in(t) if isinstance(t, torch.Tensor) else t, inputs)
    return fake, copy.deepcopy(module, memo), given, copy.deepcopy(optimizer, memo)
