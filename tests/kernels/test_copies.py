"""Asynchronous copies: a missing or weak wait is an error with both lines, and copies may fill with zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlsys_lab.kernels import CudaKernel
from tests.kernels.conftest import needs_nvrtc

pytestmark = needs_nvrtc

#: Two groups of 32 floats, and a thread that reads its neighbour's of the first.
TWO = """#include <cuda_pipeline.h>
extern "C" __global__ void k(const float* x, float* y) {
    __shared__ float s[64];
    int t = threadIdx.x;
    __pipeline_memcpy_async(&s[t], &x[t], 4);
    __pipeline_commit();
    __pipeline_memcpy_async(&s[32 + t], &x[32 + t], 4);
    __pipeline_commit();
    WAIT
    __syncthreads();
    y[t] = s[READ];
}"""
WAIT_1, WAIT_0 = "__pipeline_wait_prior(1);", "__pipeline_wait_prior(0);"
X = np.arange(1, 65, dtype=np.float32)


def copied(wait: str, read: str, source: str = TWO) -> tuple[np.ndarray, Any]:
    out = np.zeros(32, np.float32)
    return out, CudaKernel(source.replace("WAIT", wait).replace("READ", read))[1, 32](X, out)


@pytest.mark.parametrize(
    ("wait", "read", "line"),
    [("", "31 - t", 5), (WAIT_1, "63 - t", 7), ("if (t < 16) " + WAIT_0, "31 - t", 5)],
)
def test_a_read_before_the_wait_for_its_group_is_an_error_that_names_both_lines(wait, read, line):
    _, report = copied(wait, read)
    assert [(e.kind, e.line) for e in report.errors] == [("async_not_waited", 11)]
    assert report.errors[0].message.startswith("line 11: thread (0, 0, 0) of block (0, 0, 0) reads byte ")
    assert f"the copy of line {line} by thread (31, 0, 0)" in report.errors[0].message


@pytest.mark.parametrize(
    ("wait", "read"),
    [(WAIT_1, "31 - t"), (WAIT_0, "63 - t"), ('asm volatile("cp.async.wait_all;");', "63 - t")],
)
def test_the_right_wait_is_clean(wait, read):
    out, report = copied(wait, read)
    assert (report.errors, report.races) == ([], [])
    assert np.array_equal(out, X[eval(read, {"t": np.arange(32)})])


def test_a_copy_that_belongs_to_no_group_is_not_waited_for_by_wait_group():
    source = TWO.replace("    __pipeline_commit();\n    WAIT", "    WAIT")
    _, report = copied(WAIT_0, "63 - t", source)
    assert [e.kind for e in report.errors] == ["async_not_waited"]


def test_a_wait_without_a_barrier_is_a_race_with_those_who_read_other_threads_copies():
    _, report = copied(WAIT_0, "31 - t", TWO.replace("    __syncthreads();\n", ""))
    assert [r.lines for r in report.races] == [(5, 10)]


def test_a_barrier_before_the_wait_instead_of_behind_it_is_a_race_too():
    _, report = copied(
        f"__syncthreads(); {WAIT_0}", "31 - t", TWO.replace("    __syncthreads();\n    y", "    y")
    )
    assert [r.lines for r in report.races] == [(5, 10)]


def test_a_ring_of_two_buffers_is_clean_and_right():
    source = """#include <cuda_pipeline.h>
extern "C" __global__ void k(const float* x, float* y, int n) {
    __shared__ float s[2][32];
    int t = threadIdx.x;
    float sum = 0;
    __pipeline_memcpy_async(&s[0][t], &x[t], 4);
    __pipeline_commit();
    for (int i = 0; i < n; ++i) {
        if (i + 1 < n) __pipeline_memcpy_async(&s[(i + 1) % 2][t], &x[32 * (i + 1) + t], 4);
        __pipeline_commit();
        __pipeline_wait_prior(1);
        __syncthreads();
        sum += s[i % 2][31 - t];
        __syncthreads();
    }
    y[t] = sum;
}"""
    x, out = np.arange(320, dtype=np.float32), np.zeros(32, np.float32)
    report = CudaKernel(source)[1, 32](x, out, 10)
    assert (report.errors, report.races) == ([], [])
    assert np.array_equal(out, x.reshape(10, 32).sum(axis=0)[::-1])
    weak = source.replace("wait_prior(1)", "wait_prior(2)")
    assert [e.kind for e in CudaKernel(weak)[1, 32](x, out, 10).errors] == ["async_not_waited"]


def test_copies_fill_with_zeros_and_do_not_touch_what_they_do_not_read():
    source = """#include <cuda_pipeline.h>
extern "C" __global__ void k(const float* x, float* y, int n) {
    __shared__ float4 s[32];
    int t = threadIdx.x, left = n - 4 * t, fill = left >= 4 ? 0 : left <= 0 ? 16 : 16 - 4 * left;
    __pipeline_memcpy_async(&s[t], &x[4 * t], 16, fill);
    __pipeline_commit();
    __pipeline_wait_prior(0);
    reinterpret_cast<float4*>(y)[t] = s[t];
}"""
    n = 50
    x, out = np.arange(1, n + 1, dtype=np.float32), np.full(128, 7, np.float32)
    report = CudaKernel(source)[1, 32](x, out, n)
    assert report.errors == []
    assert np.array_equal(out, np.pad(x, (0, 128 - n)))
    assert report.global_loads.bytes == 4 * n


def test_cooperative_groups_copy_asynchronously():
    source = """#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>
namespace cg = cooperative_groups;
extern "C" __global__ void k(const float* x, float* y) {
    __shared__ __align__(16) float s[128];
    auto block = cg::this_thread_block();
    cg::memcpy_async(block, s, x, cuda::aligned_size_t<16>(sizeof(s)));
    WAIT
    y[block.thread_rank()] = s[127 - block.thread_rank()];
}"""
    x, out = np.arange(128, dtype=np.float32), np.zeros(128, np.float32)
    source = source.replace("cuda::aligned_size_t<16>(sizeof(s))", "sizeof(s)")
    report = CudaKernel(source.replace("WAIT", "cg::wait(block);"))[1, 128](x, out)
    assert (report.errors, report.races) == ([], [])
    assert np.array_equal(out, x[::-1])
    report = CudaKernel(source.replace("WAIT", "block.sync();"))[1, 128](x, out)
    assert [e.kind for e in report.errors] == ["async_not_waited"]
