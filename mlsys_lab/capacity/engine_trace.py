"""The exact peak memory of a training step of the course's own engine: the step runs, and arrays are counted.

The engine computes with NumPy arrays and C on them; shapes alone do not say which temporaries a rule makes.
So the step is run, each block that NumPy takes is noted, and everything is put back as it was.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np

from mlsys_lab.autograd import Tensor
from mlsys_lab.autograd.tape import mode
from mlsys_lab.capacity.liveness import Storage, Trace
from mlsys_lab.capacity.numpy_memory import listening
from mlsys_lab.nn import Module

Step = Callable[[Any, Any, Any], None]
_OURS = ("/mlsys_lab/", "\\mlsys_lab\\", "/numpy/", "\\numpy\\")


def trace(
    module: Module, inputs: Any, optimizer: Any = None, *, step: Step | None = None, steps: int = 2,
    recompute: Sequence[str] = (),
) -> Trace:  # fmt: skip
    """Follow the memory of training steps of a `mlsys_lab.nn` module, which run in this process.

    Args:
        module, inputs, optimizer: the engine's; inputs are arrays or tensors, alone or in lists and dicts.
        step: `step(module, inputs, optimizer)`, where a step is not forward, backward of the output's sum (of
            the output itself where it is one number), optimiser and zero_grad.
        steps: how many: from the second on, the optimiser's state is there.
        recompute: not for this engine.

    Returns:
        The trace, of arrays that NumPy keeps: Python's own objects are not in it, nor what C takes for
        itself. Parameters and the optimiser's state are as before; random numbers were drawn.

    Raises:
        ValueError: `recompute` names something.
    """
    if recompute:
        raise ValueError("the course's engine does not recompute: trace a torch module to see what it saves")
    kept, state = _copies(module), None if optimizer is None else optimizer.state_dict()
    gradients = [(p, p.grad) for p in module.parameters()]
    gc.collect()
    tracker = Tracker({id(m): name for name, m in module.named_modules()})
    for part, arrays in (
        ("parameters", [p.data for p in module.parameters()]),
        ("gradients", [p.grad.data for p in module.parameters() if p.grad is not None]),
        ("inputs", list(_arrays(inputs))),
        ("optimiser", [] if optimizer is None else list(_arrays(vars(optimizer)))),
    ):
        for array in arrays:
            tracker.hold(_owner(array), part)
    try:
        with _named(tracker, module, optimizer), listening(tracker.hear):
            for _ in range(steps):
                (step or plain_step)(module, inputs, optimizer)
                gc.collect(0)
    finally:
        for p, values in zip(module.parameters(), kept, strict=True):
            p.data[...] = values
        for p, gradient in gradients:
            p.grad = gradient
        if optimizer is not None:
            optimizer.load_state_dict(state)
    return Trace(tuple(tracker.timeline), tuple(tracker.storages))


def plain_step(module: Any, inputs: Any, optimizer: Any) -> None:
    """Forward, backward of the output's sum (of itself where it is one number), optimiser, zero_grad."""
    if isinstance(inputs, dict):
        out = module(**inputs)
    else:
        out = module(*inputs) if isinstance(inputs, list | tuple) else module(inputs)
    (out if out.size == 1 else out.sum()).backward()
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad()


class Tracker:
    """What is there, by address.

    Args:
        modules: paths by the identity of their modules.
    """

    def __init__(self, modules: dict[int, str]) -> None:
        self.modules = modules
        self.storages: list[Storage] = []
        self.timeline = [0]
        self.live: dict[int, Storage] = {}

    def hold(self, array: Any, part: str) -> None:
        """Count an array that was there before, once."""
        address = array.__array_interface__["data"][0]
        if address not in self.live and array.nbytes:
            self._came(address, array.nbytes, Storage(array.nbytes, "", "", "", part, len(self.timeline)))
            weakref.finalize(array, self.hear, address, 0)

    def hear(self, address: int, size: int) -> None:
        """NumPy took a block, or gave one back."""
        if not size:
            gone = self.live.pop(address, None)
            if gone is not None:
                gone.died = len(self.timeline)
                self.timeline.append(self.timeline[-1] - gone.bytes)
            return
        line, module = self._place()
        self._came(address, size, Storage(size, line, "", module, "temporaries", len(self.timeline)))

    def _came(self, address: int, size: int, made: Storage) -> None:
        self.live[address] = made
        self.storages.append(made)
        self.timeline.append(self.timeline[-1] + size)

    def call(self, part: str, *, was: str = "temporaries", since: int = 0) -> None:
        """Say what all blocks of a kind that are there now are for."""
        for storage in self.live.values():
            if storage.part == was and storage.born >= since:
                storage.part = part

    def call_it(self, array: Any, part: str) -> None:
        """Say what one array is for."""
        known = self.live.get(_owner(array).__array_interface__["data"][0])
        if known is not None:
            known.part = part

    def _place(self) -> tuple[str, str]:
        """The innermost line that is neither ours nor NumPy's, and the innermost module that is running."""
        frame: FrameType | None = sys._getframe(3)
        module, line = "", ""
        while frame is not None:
            code = frame.f_code
            if not module and code.co_name == "forward":
                module = self.modules.get(id(frame.f_locals.get("self")), "")
            file = code.co_filename
            if not line and not file.startswith("<") and not any(part in file for part in _OURS):
                line = f"{file.replace(chr(92), '/').rsplit('/', 1)[-1]}:{frame.f_lineno}"
            if module and line:
                break
            frame = frame.f_back
        return line, module


@contextmanager
def _named(tracker: Tracker, module: Module, optimizer: Any) -> Iterator[None]:
    """Says what blocks are for: at backward's start activations, at the optimiser's gradients and state."""
    outer = mode.before_walk

    def walk_begins(tape: Any) -> None:
        tracker.call("activations")
        if outer is not None:
            outer(tape)

    mode.before_walk = walk_begins
    if optimizer is not None:
        run = optimizer.step

        def stepped(*arguments: Any) -> Any:
            for p in module.parameters():
                if p.grad is not None:
                    tracker.call_it(p.grad.data, "gradients")
            since = len(tracker.timeline)
            result = run(*arguments)
            tracker.call("optimiser", since=since)
            return result

        optimizer.step = stepped
    try:
        yield
    finally:
        mode.before_walk = outer
        if optimizer is not None:
            del optimizer.step


def _copies(module: Module) -> list[Any]:
    return [np.array(p.data) for p in module.parameters()]


def _owner(array: Any) -> Any:
    """The array whose memory this one looks at."""
    while isinstance(getattr(array, "base", None), np.ndarray):
        array = array.base
    return array


def _arrays(value: Any) -> Iterator[Any]:
    """The arrays in lists, tuples, dicts and the engine's arenas."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Tensor):
        yield value.data
    elif isinstance(value, dict):
        for each in value.values():
            yield from _arrays(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _arrays(each)
    elif type(value).__name__ == "Arena":
        yield from _arrays(vars(value))
