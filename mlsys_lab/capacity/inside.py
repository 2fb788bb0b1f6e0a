"""What an operation of torch allocates inside, beyond its outputs: seen by running that one operation once.

oneDNN copies a convolution's images and weights into blocked formats that suit the processor. No dispatcher
sees those copies and no formula holds on every processor, so each convolution is run alone, with the same
shapes on tensors of its own, and torch's profiler says what its allocator did.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_flatten, tree_unflatten

#: Operations with such buffers of their own.
HIDES = ("aten::convolution", "aten::convolution_backward")
#: Operations whose outputs are not all that they keep: the rest is in buffers of oneDNN's own.
OPAQUE, OPAQUE_BACKWARD = "aten::mkldnn_rnn_layer", "aten::mkldnn_rnn_layer_backward"

T = TypeVar("T")


def most_inside(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Bytes that an operation holds at its own worst moment, its outputs included.

    Args:
        function: an operation of the dispatcher, `torch.ops.aten.convolution.default`.
        args: its arguments; of tensors only shape, strides and dtype count.
        kwargs: likewise.
    """
    values, form = tree_flatten((args, kwargs))
    return _run_alone(function, form, tuple(map(_described, values)))


def _described(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.Tensor, tuple(value.shape), value.stride(), value.dtype
    return value


def kept_and_most(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int]:
    """Bytes that a layer keeps from its forward for its backward, and the most that both hold.

    Args:
        function: an operation whose outputs hide what it keeps, `torch.ops.aten.mkldnn_rnn_layer.default`.
        args: its arguments, as for `most_inside`.
        kwargs: likewise.
    """
    values, form = tree_flatten((args, kwargs))
    return _run_with_backward(function, form, tuple(map(_described, values)))


@lru_cache(maxsize=1024)
def _run_alone(function: Any, form: Any, described: tuple[Any, ...]) -> int:
    def run() -> int:
        args, kwargs = tree_unflatten([_real(value) for value in described], form)
        with torch.no_grad():
            function(*args, **kwargs)  # the first time, oneDNN also makes what it keeps
            return max(accumulate(_allocations(lambda: function(*args, **kwargs))), default=0)

    return _in_earnest(run)


@lru_cache(maxsize=1024)
def _run_with_backward(function: Any, form: Any, described: tuple[Any, ...]) -> tuple[int, int]:
    def run() -> tuple[int, int]:
        values = [_real(value) for value in described]
        for value in values:
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                value.requires_grad_()
        args, kwargs = tree_unflatten(values, form)
        out: list[Any] = []
        kept = sum(_allocations(lambda: out.append(function(*args, **kwargs))))
        back = max(accumulate(_allocations(lambda: out[0][0].sum().backward())), default=0)
        return kept, kept + back

    return _in_earnest(run)


def _in_earnest(run: Callable[[], T]) -> T:
    """In a thread of its own, where nothing follows the operations."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def _allocations(run: Callable[[], Any]) -> list[int]:
    """What torch's allocator did in a run, in order: bytes taken, and with a minus bytes given back."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        kept = run()
    del kept
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiled.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    found = sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"])
    return [e["args"]["Bytes"] for e in found]


def _real(value: Any) -> Any:
    if not (isinstance(value, tuple) and value[:1] == (torch.Tensor,)):
        return value
    _, shape, strides, dtype = value
    return torch.empty_strided(shape, strides, dtype=dtype).zero_()
