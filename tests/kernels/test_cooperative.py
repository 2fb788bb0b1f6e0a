"""`this_grid().sync()`: what it orders, what it waits for, and how many blocks it may have."""

from __future__ import annotations

import numpy as np
import pytest

from mlsys_lab.kernels import CudaKernel
from mlsys_lab.kernels.residency import GPUS, blocks_resident, resources
from tests.kernels.conftest import needs_nvrtc

pytestmark = needs_nvrtc

HEAD = """#include <cooperative_groups.h>
namespace cg = cooperative_groups;
"""
TOTAL = (
    HEAD
    + """extern "C" __global__ void total(const float* x, float* parts, float* y, int n) {
    cg::grid_group grid = cg::this_grid();
    __shared__ float s[64];
    int t = threadIdx.x;
    float sum = 0;
    for (int i = grid.thread_rank(); i < n; i += grid.size()) sum += x[i];
    s[t] = sum;
    __syncthreads();
    for (int k = 32; k > 0; k /= 2) {
        if (t < k) s[t] += s[t + k];
        __syncthreads();
    }
    if (t == 0) parts[blockIdx.x] = s[0];
    SYNC
    if (grid.thread_rank() == 0) {
        float all = 0;
        for (int b = 0; b < gridDim.x; ++b) all += parts[b];
        y[0] = all;
    }
}"""
)


def test_one_launch_sums_over_all_blocks():
    x = np.random.default_rng(0).integers(-100, 100, 5000).astype(np.float32)
    y, parts = np.zeros(1, np.float32), np.zeros(12, np.float32)
    report = CudaKernel(TOTAL.replace("SYNC", "grid.sync();"))[12, 64](x, parts, y, len(x))
    assert y[0] == x.astype(np.float64).sum()
    assert report.errors == report.races == []


def test_what_the_barrier_of_the_grid_orders_is_a_race_without_it():
    x, y, parts = np.ones(500, np.float32), np.zeros(1, np.float32), np.zeros(4, np.float32)
    report = CudaKernel(TOTAL.replace("SYNC", ""))[4, 64](x, parts, y, len(x))
    assert [(r.kind, r.lines, r.space) for r in report.races] == [("read-write", (15, 19), "global")]


def test_a_barrier_of_the_block_orders_nothing_between_blocks():
    x, y, parts = np.ones(500, np.float32), np.zeros(1, np.float32), np.zeros(4, np.float32)
    report = CudaKernel(TOTAL.replace("SYNC", "__syncthreads();"))[4, 64](x, parts, y, len(x))
    assert [(r.kind, r.lines) for r in report.races] == [("read-write", (15, 19))]


STENCIL = (
    HEAD
    + """extern "C" __global__ void smooth(float* a, float* b, int n, int steps) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    for (int s = 0; s < steps; ++s) {
        if (0 < i && i < n - 1) b[i] = 0.25f * a[i - 1] + 0.5f * a[i] + 0.25f * a[i + 1];
        SYNC
        float* c = a; a = b; b = c;
    }
}"""
)


def smoothed(x: np.ndarray, steps: int) -> np.ndarray:
    for _ in range(steps):
        y = x.copy()
        y[1:-1] = 0.25 * x[:-2] + 0.5 * x[1:-1] + 0.25 * x[2:]
        x = y
    return x


def test_a_stencil_that_meets_between_its_steps_is_numpys():
    a = np.random.default_rng(1).integers(0, 64, 250).astype(np.float32)
    b, want = a.copy(), smoothed(a.astype(np.float64), 6)
    report = CudaKernel(STENCIL.replace("SYNC", "cg::this_grid().sync();"))[4, 64](a, b, 250, 6)
    np.testing.assert_array_equal(a, want)  # sums of 64ths times at most 2^12: exact in float32
    assert report.errors == report.races == []


def test_a_stencil_that_does_not_meet_races_with_its_neighbours():
    a = np.zeros(250, np.float32)
    report = CudaKernel(STENCIL.replace("SYNC", "__syncthreads();"))[4, 64](a, a.copy(), 250, 6)
    assert {(r.kind, r.lines) for r in report.races} == {("read-write", (6, 6))}
    assert {r.blocks[0] == r.blocks[1] for r in report.races} == {False}


@pytest.mark.parametrize(
    ("guard", "waiting"),
    [("blockIdx.x != 1", 3), ("blockIdx.x == 2", 1), ("y[blockIdx.x] == 0", 2)],
)
def test_a_barrier_that_not_all_blocks_reach_is_a_deadlock(guard, waiting):
    source = (
        HEAD + 'extern "C" __global__ void k(float* y) {\n    if (GUARD)\n        cg::this_grid().sync();\n'
    )
    source = source.replace("GUARD", guard) + "    y[blockIdx.x] = 7;\n}"
    y = np.array([0, 1, 0, 1], np.float32)
    report = CudaKernel(source)[4, 64](y, steps=20_000)
    assert [(e.kind, e.line) for e in report.errors] == [("deadlock", 5)]
    assert f"{waiting} of 4 blocks wait for the whole grid in line 5" in report.errors[0].message


def test_a_barrier_that_some_threads_of_a_block_return_before_is_passed():
    source = HEAD + 'extern "C" __global__ void k(float* x, float* y) {\n    if (threadIdx.x > 40) return;\n'
    source += (
        "    x[blockIdx.x * 64 + threadIdx.x] = blockIdx.x;\n    cg::this_grid().sync();\n"
        "    y[blockIdx.x * 64 + threadIdx.x] = x[(blockIdx.x + 1) % gridDim.x * 64 + threadIdx.x];\n}"
    )
    x, y = np.zeros((3, 64), np.float32), np.zeros((3, 64), np.float32)
    report = CudaKernel(source)[3, 64](x, y)
    np.testing.assert_array_equal(y[:, :41], np.repeat([[1], [2], [0]], 41, axis=1))
    assert report.errors == report.races == []


def test_a_grid_larger_than_the_gpu_holds_is_refused_in_one_line_and_the_largest_one_is_not():
    source = HEAD + 'extern "C" __global__ void k(float* y) {\n    cg::this_grid().sync();\n}'
    has = resources(source, "sm_80")["k"]
    each = min(blocks_resident(GPUS["A100"], 1024, has.registers, has.shared_bytes).values())
    assert each == 2  # 2,048 threads on a multiprocessor, of which an A100 has 108
    kernel = CudaKernel(source)
    assert kernel[216, 1024] is not None
    message = (
        r"A100 \(sm_80\) holds 216 blocks of 1024 threads .*\(2 on each of 108 .*held by warps\), got 217"
    )
    with pytest.raises(ValueError, match=message) as refused:
        kernel[217, 1024]
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=r"holds 108 blocks .* held by shared"):
        kernel[109, 64, 160_000]
