"""Ours, for benchmarks/kernels.py: kernels, their arguments and what has to come out."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from _kernels_peer import ADD, BLOCK, SUM

from mlsys_lab.kernels import CudaKernel

NAIVE = """__global__ void naive(const float* a, const float* b, float* c, int n) {
    int j = blockIdx.x * blockDim.x + threadIdx.x, i = blockIdx.y * blockDim.y + threadIdx.y;
    float sum = 0;
    for (int k = 0; k < n; k++) sum += a[i * n + k] * b[k * n + j];
    c[i * n + j] = sum;
}"""
TILED = """__global__ void tiled(const float* a, const float* b, float* c, int n) {
    __shared__ float s[16][16], r[16][16];
    int x = threadIdx.x, y = threadIdx.y, j = blockIdx.x * 16 + x, i = blockIdx.y * 16 + y;
    float sum = 0;
    for (int t = 0; t < n; t += 16) {
        s[y][x] = a[i * n + t + x];
        r[y][x] = b[(t + y) * n + j];
        __syncthreads();
        for (int k = 0; k < 16; k++) sum += s[y][k] * r[k][x];
        __syncthreads();
    }
    c[i * n + j] = sum;
}"""
TILED_2D = """__global__ void tiled2d(const float* a, const float* b, float* c, int n) {
    __shared__ float s[16][64], r[16][64];
    int t = threadIdx.x, x = t % 16, y = t / 16, column = blockIdx.x * 64, row = blockIdx.y * 64;
    float sum[4][4] = {};
    for (int from = 0; from < n; from += 16) {
        for (int e = t; e < 1024; e += 256) {
            s[e % 16][e / 16] = a[(row + e / 16) * n + from + e % 16];
            r[e / 64][e % 64] = b[(from + e / 64) * n + column + e % 64];
        }
        __syncthreads();
        for (int k = 0; k < 16; k++) {
            float u[4], v[4];
            for (int i = 0; i < 4; i++) { u[i] = s[k][y * 4 + i]; v[i] = r[k][x * 4 + i]; }
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) sum[i][j] += u[i] * v[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) c[(row + y * 4 + i) * n + column + x * 4 + j] = sum[i][j];
}"""
SOFTMAX_3 = """__global__ void softmax3(const float* x, float* y, int n) {
    __shared__ float s[256];
    const float* row = x + blockIdx.x * n;
    int t = threadIdx.x;
    float top = -INFINITY_, total = 0;
    for (int i = t; i < n; i += 256) top = fmaxf(top, row[i]);
    s[t] = top;
    __syncthreads();
    for (int k = 128; k; k /= 2) { if (t < k) s[t] = fmaxf(s[t], s[t + k]); __syncthreads(); }
    top = s[0];
    __syncthreads();
    for (int i = t; i < n; i += 256) total += expf(row[i] - top);
    s[t] = total;
    __syncthreads();
    for (int k = 128; k; k /= 2) { if (t < k) s[t] += s[t + k]; __syncthreads(); }
    for (int i = t; i < n; i += 256) y[blockIdx.x * n + i] = expf(row[i] - top) / s[0];
}""".replace("INFINITY_", "3.4e38f")
SOFTMAX_ONLINE = """__global__ void online(const float* x, float* y, int n) {
    __shared__ float tops[256], totals[256];
    const float* row = x + blockIdx.x * n;
    int t = threadIdx.x;
    float top = -3.4e38f, total = 0;
    for (int i = t; i < n; i += 256) {
        float higher = fmaxf(top, row[i]);
        total = total * expf(top - higher) + expf(row[i] - higher);
        top = higher;
    }
    tops[t] = top;
    totals[t] = total;
    __syncthreads();
    for (int k = 128; k; k /= 2) {
        if (t < k) {
            float higher = fmaxf(tops[t], tops[t + k]);
            totals[t] = totals[t] * expf(tops[t] - higher) + totals[t + k] * expf(tops[t + k] - higher);
            tops[t] = higher;
        }
        __syncthreads();
    }
    for (int i = t; i < n; i += 256) y[blockIdx.x * n + i] = expf(row[i] - tops[0]) / totals[0];
}"""


@dataclass
class Case:
    """A kernel with its launch; `wrong` is how far the result is off."""

    kernel: CudaKernel
    shape: tuple[Any, Any]
    arguments: tuple[Any, ...]

    def run(self) -> float:
        """CPU seconds of one launch, all analyses on."""
        start = time.process_time()
        report = self.kernel[self.shape](*self.arguments)
        taken = time.process_time() - start
        assert report is not None
        assert report.errors == report.races == []
        return taken


def compiled(source: str) -> CudaKernel:
    return CudaKernel('extern "C" ' + source)


def simple(case: str, threads: int) -> Case:
    """Vector add or block sum of ones."""
    block = min(threads, BLOCK)
    x = np.ones(threads, np.float32)
    if case == "vector add":
        return Case(compiled(ADD), (threads // block, block), (x, x.copy(), np.zeros_like(x), threads))
    return Case(compiled(SUM), (threads // block, block), (x, np.zeros(threads // block, np.float32)))


def large() -> dict[str, tuple[Case, Any]]:
    """Matrix products of 256 and softmaxes of 512 x 1024, each with what has to come out."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((256, 256), dtype=np.float32) for _ in range(2))
    x = rng.standard_normal((512, 1024)).astype(np.float32)
    raised = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    found: dict[str, tuple[Case, Any]] = {}
    for name, source, shape in (
        ("naive matmul 256", NAIVE, ((16, 16), (16, 16))),
        ("tiled matmul 256", TILED, ((16, 16), (16, 16))),
        ("2D-tile matmul 256", TILED_2D, ((4, 4), 256)),
    ):
        found[name] = (Case(compiled(source), shape, (a, b, np.zeros_like(a), 256)), a.astype(np.float64) @ b)
    for name, source in (
        ("three-pass softmax 512x1024", SOFTMAX_3),
        ("online softmax 512x1024", SOFTMAX_ONLINE),
    ):
        wanted = raised / raised.sum(axis=1, keepdims=True)
        found[name] = (Case(compiled(source), (512, 256), (x, np.zeros_like(x), 1024)), wanted)
    return found
