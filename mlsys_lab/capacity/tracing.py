"""The exact peak memory of a training step of a torch module, without running it.

The step runs on copies whose tensors have shapes and no memory, in the same order of operations as in
earnest: what is alive when is known from Python's reference counts, line by line.

    >>> trace(model, torch.empty(8, 512), torch.optim.AdamW(model.parameters())).peak_bytes  # doctest: +SKIP
    42516512
"""

from __future__ import annotations

import copy
import fnmatch
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from mlsys_lab.capacity.fake import Step, copies, known_tensors_only, plain_step
from mlsys_lab.capacity.liveness import Trace
from mlsys_lab.capacity.storages import Tracker


def trace(
    module: torch.nn.Module,
    inputs: Any,
    optimizer: Any = None,
    *,
    step: Step | None = None,
    steps: int = 2,
    recompute: Sequence[str] = (),
) -> Trace:
    """Follow the memory of training steps, and run nothing.

    Args:
        module: torch's; on the CPU, or on "meta" where it would not fit.
        inputs: a tensor, or what the step takes: tensors in lists, tuples, dicts. Only their shapes count.
        optimizer: torch's, of the module's parameters; None stops after backward.
        step: `step(module, inputs, optimizer)`, where a step is not forward, backward of the output's sum (of
            the output itself where that is a scalar), optimiser and zero_grad.
        steps: how many: from the second on, the optimiser's state is there.
        recompute: modules by path (`layers.*`) whose activations are dropped and computed again in backward.

    Returns:
        The trace; nothing of `module`, `inputs` or `optimizer` is changed.

    Raises:
        ValueError: a pattern of `recompute` that names no module.
        TypeError: `module` is not torch's.
        ValueError: the step uses a tensor that is neither the module's nor among the inputs.
    """
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"expected a torch.nn.Module or one of mlsys_lab.nn, got {type(module).__name__}")
    fake, model, given, update = copies(module, inputs, optimizer)
    _recomputing(model, recompute)
    tracker = Tracker()
    with (
        known_tensors_only(),
        _quiet(),
        fake,
        _watched(tracker, model, update),
        _random_states(tracker),
        tracker,
    ):
        for part, tensors in (
            ("parameters", list(model.parameters())),
            ("buffers", list(model.buffers())),
            ("inputs", [t for t in tree_leaves(given) if isinstance(t, torch.Tensor)]),
        ):
            for tensor in tensors:
                tracker.hold(tensor, part)
        if update is not None:
            _name_state(tracker, update)
        for _ in range(steps):
            (step or plain_step)(model, given, update)
    again = partial(trace, module, inputs, optimizer, step=step, steps=steps)
    seen = tuple(map(copy.copy, tracker.storages))
    return Trace(tuple(tracker.timeline), seen, tracker.hidden_bytes, again, tuple(recompute),
                 frozenset(tracker.ran))  # fmt: skip


def _recomputing(model: Any, patterns: Sequence[str]) -> None:
    from torch.utils.checkpoint import checkpoint

    for pattern in patterns:
        found = [m for name, m in model.named_modules() if name and fnmatch.fnmatchcase(name, pattern)]
        if not found:
            names = ", ".join(name for name, _ in model.named_modules() if name)
            raise ValueError(f"no module is called {pattern!r}: there are {names[:300]}")
        for part in found:
            part.forward = _checkpointed(checkpoint, part.forward)


def _checkpointed(checkpoint: Any, forward: Any) -> Any:
    return lambda *args, **kwargs: checkpoint(
        forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs
    )


@contextmanager
def _watched(tracker: Tracker, model: Any, optimizer: Any) -> Iterator[None]:
    """Hooks that say which module runs, which storages are gradients, which the optimiser's state."""
    hooks = []
    for name, part in model.named_modules():
        hooks += [
            part.register_forward_pre_hook(lambda *_, n=name: _enter(tracker, n)),
            part.register_forward_hook(lambda *_: _leave(tracker), always_call=True),
        ]
    for p in model.parameters():
        if p.requires_grad:
            hooks.append(p.register_post_accumulate_grad_hook(lambda p: tracker.call_it(p.grad, "gradients")))
    if optimizer is not None:
        hooks.append(optimizer.register_step_post_hook(lambda o, *_: _name_state(tracker, o)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _enter(tracker: Tracker, name: str) -> None:
    tracker.modules.append(name)
    tracker.ran.add(name)


def _leave(tracker: Tracker) -> None:
    tracker.modules.pop()


def _name_state(tracker: Tracker, optimizer: Any) -> None:
    for tensor in tree_leaves(list(optimizer.state.values())):
        if isinstance(tensor, torch.Tensor):
            tracker.hold(tensor, "optimiser")
            tracker.call_it(tensor, "optimiser")


@contextmanager
def _quiet() -> Iterator[None]:
    """Anomaly mode notes the line of each operation, for its backward, and warns that it does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.autograd.set_detect_anomaly(True, check_nan=False):
            yield


@contextmanager
def _random_states(tracker: Tracker) -> Iterator[None]:
    """The state of the random numbers, which a checkpoint keeps, comes past the dispatcher."""
    get = torch.random.get_rng_state

    def seen() -> torch.Tensor:
        state = get()
        tracker.hold(state, "temporaries", "get_rng_state")
        return state

    torch.get_rng_state = torch.random.get_rng_state = seen
    try:
        yield
    finally:
        torch.get_rng_state = torch.random.get_rng_state = get
