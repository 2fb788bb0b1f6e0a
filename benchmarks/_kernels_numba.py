"""numba's side of benchmarks/kernels.py; its simulator wants `cuda` to be a global of the kernels' module."""

from __future__ import annotations

import os
import time

os.environ["NUMBA_ENABLE_CUDASIM"] = "1"

import numpy as np
from numba import cuda, float32

BLOCK = 256


@cuda.jit
def add(x, y, z, n):  # type: ignore[no-untyped-def]
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if i < n:
        z[i] = x[i] + y[i]


@cuda.jit
def total(x, y):  # type: ignore[no-untyped-def]
    s = cuda.shared.array(256, float32)
    t = cuda.threadIdx.x
    s[t] = x[cuda.blockIdx.x * cuda.blockDim.x + t]
    cuda.syncthreads()
    k = cuda.blockDim.x // 2
    while k > 0:
        if t < k:
            s[t] += s[t + k]
        cuda.syncthreads()
        k //= 2
    if t == 0:
        y[cuda.blockIdx.x] = s[0]


def run(case: str, threads: int) -> tuple[float, float]:
    """CPU seconds of a launch on ones, and the sum of what it computed."""
    block = min(threads, BLOCK)
    x = np.ones(threads, np.float32)
    z = np.zeros(threads if case == "vector add" else threads // block, np.float32)
    start = time.process_time()
    if case == "vector add":
        add[threads // block, block](x, x, z, threads)
    else:
        total[threads // block, block](x, z)
    return time.process_time() - start, float(z.sum())
