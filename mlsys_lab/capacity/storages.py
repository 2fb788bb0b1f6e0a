"""The storages of a program that runs on torch's fake tensors: when each came, who made it, when it went.

A fake tensor has a shape, a dtype and a storage without memory. Every operation that the dispatcher sees
hands its outputs over here; a storage is gone when Python's reference count says so, as in earnest.
"""

from __future__ import annotations

import re
import sys
import weakref
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mlsys_lab.capacity.inside import HIDES, OPAQUE, OPAQUE_BACKWARD, kept_and_most, most_inside
from mlsys_lab.capacity.liveness import Storage

_OURS = ("mlsys_lab/capacity/", "mlsys_lab\\capacity\\")
_TORCH = ("site-packages/torch/", "dist-packages/torch/", "site-packages\\torch\\")


@dataclass
class Tracker(TorchDispatchMode):
    """Sees every storage from when it is made to when it is freed."""

    storages: list[Storage] = field(default_factory=list)
    timeline: list[int] = field(default_factory=lambda: [0])
    modules: list[str] = field(default_factory=list)
    ran: set[str] = field(default_factory=set)
    opaque: bool = False
    hidden_bytes: int = 0

    def __post_init__(self) -> None:
        super().__init__()
        self._live: dict[int, Storage] = {}
        self._backward = False
        self._hidden: list[int] = []
        self._most_of_one = 0

    def hold(self, tensor: Any, part: str, operation: str = "") -> None:
        """Count a tensor's storage, once."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            return
        line = _line() if operation else ""
        where = self.modules[-1] if self.modules else ""
        made = Storage(storage.nbytes(), line, operation, where, part, len(self.timeline))
        self._live[key] = made
        self.storages.append(made)
        self.timeline.append(self.timeline[-1] + made.bytes)
        weakref.finalize(storage, self._gone, key)

    def call_it(self, tensor: Any, part: str) -> None:
        """Say what a storage that is there already is for."""
        known = self._live.get(tensor.untyped_storage()._cdata)
        if known is not None:
            known.part = part

    def live(self) -> list[Storage]:
        """What is there now."""
        return list(self._live.values())

    def _gone(self, key: int) -> None:
        gone = self._live.pop(key)
        gone.died = len(self.timeline)
        self.timeline.append(self.timeline[-1] - gone.bytes)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function._schema.name
        if name == "aten::_local_scalar_dense":  # a number that only a real run knows: 1 stands in
            return 1.0 if args[0].is_floating_point() else args[0].dtype == torch.bool or 1
        out = function(*args, **(kwargs or {}))
        inside = most_inside(function, args, kwargs or {}) if name in HIDES else 0
        in_backward = torch._C._current_autograd_node() is not None
        if in_backward and not self._backward:  # what forward left is what backward needs
            for storage in self._live.values():
                if storage.part == "temporaries":
                    storage.part = "activations"
        self._backward = in_backward
        if name == OPAQUE:
            self._hide(*kept_and_most(function, args, kwargs or {}))
        elif name == OPAQUE_BACKWARD and self._hidden:
            self._hidden.pop()
        before = self.timeline[-1]
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor):
                self.hold(value, "temporaries", name)
        if inside > self.timeline[-1] - before:
            self._pass_by(inside - (self.timeline[-1] - before), name)
        return out

    def _hide(self, kept: int, most: int) -> None:
        """A layer keeps memory where nobody sees it: bound it by what the layer alone keeps and takes."""
        self.opaque = True
        self._hidden.append(kept)
        self._most_of_one = max(self._most_of_one, most)
        self.hidden_bytes = max(self.hidden_bytes, sum(self._hidden) + self._most_of_one)

    def _pass_by(self, size: int, operation: str) -> None:
        """Memory that comes and goes within an operation."""
        where = self.modules[-1] if self.modules else ""
        now = len(self.timeline)
        self.storages.append(Storage(size, _line(), operation, where, "temporaries", now, now + 1))
        self.timeline += [self.timeline[-1] + size, self.timeline[-1]]


def _line() -> str:
    """The innermost line that is neither torch's nor ours; in backward, that of the operation in forward."""
    node: Any = torch._C._current_autograd_node()
    if node is not None:
        places = re.findall(r'File "([^"]+)", line (\d+)', "".join(node.metadata.get("traceback_", [])))
        own = [(file, line) for file, line in places if _is_callers(file)]
        return f"backward of {_short(*own[-1])}" if own else "backward"
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if _is_callers(frame.f_code.co_filename):
            return _short(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return ""


def _is_callers(file: str) -> bool:
    return not file.startswith("<frozen") and not any(part in file for part in (*_TORCH, *_OURS))


def _short(file: str, line: int | str) -> str:
    return f"{file.replace(chr(92), '/').rsplit('/', 1)[-1]}:{line}"
