"""Measure one's own machine: single operations over a grid of sizes, in one thread, in about half a minute.

No model runs here. Each operation is called alone and timed by the CPU clock of its thread.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch

from mlsys_lab.capacity.classes import kind
from mlsys_lab.capacity.dispatched import Operation, Recorder
from mlsys_lab.capacity.machine import Machine, cache_bytes, cpu_seconds, kept_at, processor

ELEMENTS = (1, 1 << 10, 1 << 13, 1 << 15, 1 << 17, 1 << 19, 1 << 21, 1 << 23)
STREAMS = tuple(1 << n for n in range(18, 29))  # 256 KiB to 256 MiB
SIDES = (8, 64, 256, 1024)
GAPS = (3e-4, 1e-3, 4e-3)  # seconds of other work between two calls of a class in a step
HEAVY = ("product", "convolution", "attention")
CLASSES = 53  # that `say` is told of
Call = Callable[[], Any]


def calibrate(say: Callable[[str], Any] = lambda _: None) -> Machine:
    """Measure this machine.

    Args:
        say: is told each class of operation before it is measured.

    Returns:
        The machine; `save` keeps it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        machine = Machine(processor(), datetime.date.today().isoformat())
        say("peaks and bandwidths")
        _roofs(machine)
        typical: dict[str, tuple[float, Call]] = {}
        for call in _calls():
            _sample(machine, call, typical, say)
        say("first calls after other work")
        for name, (hot_s, call) in typical.items():
            machine.cold[name] = _cold(call, hot_s)
        machine.overhead_s = _overhead(machine)
    finally:
        torch.set_num_threads(threads)
    return machine


def this_machine(say: Callable[[str], Any] = lambda _: None) -> Machine:
    """This machine as it was measured before; measured now, and kept, where it was not."""
    path = kept_at()
    if path.is_file():
        known = Machine.load(path)
        if known.name == processor():
            return known
    machine = calibrate(say)
    machine.save(path)
    return machine


def _sample(
    machine: Machine, call: Call, typical: dict[str, tuple[float, Call]], say: Callable[[str], Any]
) -> None:
    """Time a call that is one operation, and file it under the class that it turns out to be."""
    found = operations_of_call(call)
    if not found:
        return
    name, sizes, units = kind(max(found, key=lambda o: (o.flops, o.bytes)))
    if name not in machine.samples:
        say(name)
        machine.samples[name] = []
    if all(sizes != there for there, _, _ in machine.samples[name]):
        taken = cpu_seconds(call)
        machine.samples[name].append((sizes, units, taken))
        if name not in typical or _off(name, taken) < _off(name, typical[name][0]):
            typical[name] = taken, call


def _off(name: str, seconds: float) -> float:
    """How far from the call that stands for its class: the smallest, whose data does not matter; of those
    that prepare their data first, a middling one."""
    return abs(math.log(seconds / (2e-4 if name.startswith(HEAVY) else 1e-6)))


def _cold(call: Call, hot_s: float, rounds: int = 9) -> list[tuple[float, float]]:
    """What a call costs more than `hot_s` after products and sums have had the core for a while."""
    a, out, small = torch.rand(256, 256), torch.empty(256, 256), torch.rand(1 << 10)
    found = []
    for gap in GAPS:
        times = []
        for _ in range(rounds):
            ends = time.thread_time() + gap
            while time.thread_time() < ends:
                torch.mm(a, a, out=out)
                small.mul_(0.999).add_(1e-9)
                torch.sqrt(small)
            before = time.thread_time()
            call()
            times.append(time.thread_time() - before)
        found.append((gap, max(sorted(times)[rounds // 2] - hot_s, 0.0)))
    return found


def operations_of_call(call: Call) -> list[Operation]:
    """What the dispatcher sees of a call."""
    with Recorder() as recorder:
        call()
    return recorder.seen


def _roofs(machine: Machine) -> None:
    for name, dtype in (("float32", torch.float32), ("float64", torch.float64), ("bfloat16", torch.bfloat16)):
        a = torch.rand(768, 768).to(dtype)
        machine.peak_flops[name] = 2 * 768**3 / cpu_seconds(partial(torch.mm, a, a))
    for size in STREAMS:
        n = size // 12  # three arrays of 4 bytes a number
        a, b, out = torch.rand(n), torch.rand(n), torch.empty(n)
        machine.stream.append((size, cpu_seconds(partial(torch.add, a, b, out=out)) / (12 * n)))
    sizes = {level: size for level, size in cache_bytes().items() if level != "L1"}  # a call takes longer
    for level, size in [*sizes.items(), ("memory", STREAMS[-1])]:
        machine.bandwidth[level] = 1 / next(cost for at, cost in reversed(machine.stream) if at <= size)


def _calls() -> Iterator[Call]:
    aten = torch.ops.aten
    for m, n, k in product(SIDES, SIDES, SIDES):
        a, b, bias = torch.rand(m, k), torch.rand(k, n), torch.rand(n)
        at, bt = torch.rand(k, m).t(), torch.rand(n, k).t()
        yield partial(torch.mm, a, b)
        yield partial(torch.addmm, bias, a, bt)
        yield partial(torch.mm, at, b)
    for n in ELEMENTS:
        yield from _elementwise(n)
    for rows, columns in product((1, 16, 128, 1024), (16, 128, 1024, 8192)):
        if rows * columns <= 1 << 22:
            yield from _rows(rows, columns)
    for causal, length, width in product((True, False), (16, 64, 256, 1024), (16, 32, 64, 128)):
        yield from _attention(causal, length, width)
    for side, inside, outside, pixels in product((1, 3), (3, 16, 64), (16, 64), (8, 16, 32)):
        yield from _convolutions(side, inside, outside, pixels)
    for channels, pixels in product((8, 64, 256), (64, 1024, 16384)):
        x, w = torch.rand(1, channels, pixels, 1), torch.rand(channels)
        mean, square = torch.rand(channels), torch.rand(channels)
        yield partial(aten.native_batch_norm, x, w, w, w, w, True, 0.1, 1e-5)
        yield partial(
            aten.native_batch_norm_backward, x, x, w, w, w, mean, square, True, 1e-5, [True, True, True]
        )


def _elementwise(n: int) -> Iterator[Call]:
    aten = torch.ops.aten
    x, y, z = torch.rand(n), torch.rand(n), torch.rand(n)
    square = torch.rand(max(n // 1024, 1), 1, 32, 32)
    yield lambda: torch.add(x, y)
    yield lambda: x.add_(1e-9)
    yield lambda: torch.mul(x, y)
    yield lambda: x.mul_(0.999)
    yield lambda: torch.div(x, 3.0)
    yield lambda: torch.sub(x, y)
    yield lambda: torch.sqrt(y)
    yield lambda: torch.pow(x, 2)
    yield lambda: x.lerp_(y, 0.1)
    yield lambda: x.addcmul_(y, z, value=1e-3)
    yield lambda: z.addcdiv_(y, x.clamp_(0.5, 1.0), value=-1e-6)
    yield lambda: x.clamp_(0.1, 1.0)
    yield lambda: torch.relu(x)
    yield lambda: aten.threshold_backward(x, y, 0)
    yield lambda: aten.gelu(x)
    yield lambda: aten.gelu_backward(x, y)
    yield lambda: torch.tanh(x)
    yield lambda: torch.exp(x)
    yield lambda: torch.ones_like(x)
    yield lambda: torch.sum(x)
    yield lambda: torch.mean(x)
    yield lambda: torch.cat([x, y])
    yield lambda: x.clone()
    yield lambda: y.copy_(z)
    yield lambda: x.to(torch.bfloat16)
    if n >= 1024:
        out, where = aten.max_pool2d_with_indices(square, [2, 2])
        yield lambda: aten.max_pool2d_with_indices(square, [2, 2])
        yield lambda: aten.max_pool2d_with_indices_backward(
            out, square, [2, 2], [2, 2], [0, 0], [1, 1], False, where
        )


def _rows(rows: int, columns: int) -> Iterator[Call]:
    aten = torch.ops.aten
    x, w, column = torch.rand(rows, columns), torch.rand(columns), torch.rand(rows, 1)
    target = torch.randint(columns, (rows,))
    one = torch.tensor(1.0)
    total = torch.tensor(float(rows))
    logs = torch.log_softmax(x, 1)
    yield lambda: aten.native_layer_norm(x, [columns], w, w, 1e-5)
    yield lambda: aten.native_layer_norm_backward(x, x, [columns], column, column, w, w, [True, True, True])
    yield lambda: torch.softmax(x, 1)
    yield lambda: aten._softmax_backward_data(x, x, 1, torch.float32)
    yield lambda: torch.log_softmax(x, 1)
    yield lambda: aten._log_softmax_backward_data(x, logs, 1, torch.float32)
    yield lambda: aten.nll_loss_backward(one, x, target, None, 1, -100, total)
    yield lambda: torch.sum(x, 0, keepdim=True)
    yield lambda: aten.embedding(x, target % rows)
    yield lambda: aten.embedding_dense_backward(x, target % rows, rows, -1, False)


def _attention(causal: bool, length: int, width: int) -> Iterator[Call]:
    aten = torch.ops.aten
    forward = aten._scaled_dot_product_flash_attention_for_cpu
    back = aten._scaled_dot_product_flash_attention_for_cpu_backward
    q = torch.rand(1, 4, length, width)
    out, log = forward(q, q, q, 0.0, causal)
    yield lambda: forward(q, q, q, 0.0, causal)
    yield lambda: back(out, q, q, q, out, log, 0.0, causal)


def _convolutions(side: int, inside: int, outside: int, pixels: int) -> Iterator[Call]:
    aten = torch.ops.aten
    x, w = torch.rand(4, inside, pixels, pixels), torch.rand(outside, inside, side, side)
    pad = side // 2
    out = torch.conv2d(x, w, None, 1, pad)
    yield lambda: aten.convolution(x, w, None, [1, 1], [pad, pad], [1, 1], False, [0, 0], 1)
    for both in (True, False):
        yield partial(
            aten.convolution_backward, out, x, w, [0], [1, 1], [pad, pad], [1, 1], False, [0, 0], 1,
            [both, True, False],
        )  # fmt: skip


def _overhead(machine: Machine) -> float:
    """What a step adds to its operations: a chain of the smallest layers, less each operation alone."""
    from mlsys_lab.capacity.predict import seconds_of

    layers = [torch.nn.Linear(1, 1) for _ in range(20)]
    chain = torch.nn.Sequential(*(part for layer in layers for part in (layer, torch.nn.ReLU())))
    optimizer = torch.optim.AdamW(chain.parameters())
    x = torch.ones(1, 1)

    def step() -> None:
        chain(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    seen = operations_of_call(step)
    # A neighbour on the processor disturbs the interpreter most: the quietest of some moments counts.
    quiet_s = min(cpu_seconds(step, least_s=0.02, rounds=3) for _ in range(8))
    return max((quiet_s - sum(seconds_of(o, machine) for o in seen)) / len(seen), 0.0)
