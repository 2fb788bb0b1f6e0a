"""Peers of benchmarks/kernels.py: the simulators of numba and of the package mlsys-lab; Triton's interpreter.

Called as `python _kernels_peer.py numba|mlsys|triton`; answers each line {"case", "threads"} with CPU seconds
of one launch, compilation excluded, and the sum of what it computed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

BLOCK = 256
ADD = """__global__ void add(float* x, float* y, float* z, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) z[i] = x[i] + y[i];
}"""
SUM = """__global__ void sum(float* x, float* y) {
    __shared__ float s[256];
    int t = threadIdx.x;
    s[t] = x[blockIdx.x * blockDim.x + t];
    __syncthreads();
    for (int k = blockDim.x / 2; k > 0; k = k / 2) {
        if (t < k) { s[t] = s[t] + s[t + k]; }
        __syncthreads();
    }
    if (t == 0) { y[blockIdx.x] = s[0]; }
}"""


def mlsys_side() -> Callable[[str, int], tuple[float, float]]:
    from mlsys.sim import GPU, CudaProgram

    add, total = CudaProgram(ADD), CudaProgram(SUM)

    def run(case: str, threads: int) -> tuple[float, float]:
        block = min(threads, BLOCK)
        gpu = GPU(3 * threads, 256)
        gpu.gmem[: 2 * threads] = 1
        start = time.process_time()
        if case == "vector add":
            names = {"x": 0, "y": threads, "z": 2 * threads, "n": threads}
            add.launch(gpu, "add", threads // block, block, names)
        else:
            total.launch(gpu, "sum", threads // block, block, {"x": 0, "y": 2 * threads})
        return time.process_time() - start, float(gpu.gmem[2 * threads :].sum())

    return run


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if sys.argv[1] == "numba":
        from _kernels_numba import run
    elif sys.argv[1] == "triton":
        from _kernels_triton import run
    else:
        run = mlsys_side()
    for line in sys.stdin:
        asked = json.loads(line)
        cpu, total = run(asked["case"], asked["threads"])
        print(json.dumps({"cpu": cpu, "total": total}), file=answers, flush=True)


if __name__ == "__main__":
    main()
