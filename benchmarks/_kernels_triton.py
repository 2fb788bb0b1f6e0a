"""Triton's side of benchmarks/kernels.py: its interpreter; a program of 256 elements is a block."""

from __future__ import annotations

import os
import time

os.environ["TRITON_INTERPRET"] = "1"

import torch
import triton
import triton.language as tl

BLOCK = 256


@triton.jit
def add(x, y, z, n, block: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.program_id(0) * block + tl.arange(0, block)
    inside = i < n
    tl.store(z + i, tl.load(x + i, mask=inside) + tl.load(y + i, mask=inside), mask=inside)


@triton.jit
def total(x, y, block: tl.constexpr):  # type: ignore[no-untyped-def]
    one = tl.program_id(0)
    tl.store(y + one, tl.sum(tl.load(x + one * block + tl.arange(0, block))))


def run(case: str, threads: int) -> tuple[float, float]:
    """CPU seconds of a launch on ones, and the sum of what it computed."""
    block = min(threads, BLOCK)
    x = torch.ones(threads)
    z = torch.zeros(threads if case == "vector add" else threads // block)
    start = time.process_time()
    if case == "vector add":
        add[(threads // block,)](x, x, z, threads, block=block)
    else:
        total[(threads // block,)](x, z, block=block)
    return time.process_time() - start, float(z.sum())
