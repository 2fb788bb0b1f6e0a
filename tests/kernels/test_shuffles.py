"""Shuffles that read a lane which is not there: an error with its line; those that CUDA defines are clean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlsys_lab.kernels import CudaKernel

FOLD = "for (int k = 16; k; k /= 2) s += __shfl_down_sync(0xffffffff, s, k);"
SUM = f"""extern "C" __global__ void k(const float* x, float* y, int n) {{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float s = x[i];
    {FOLD}
    if (threadIdx.x % 32 == 0) y[threadIdx.x / 32] = s;
}}"""
ONE = """extern "C" __global__ void k(int* y) {
    int t = threadIdx.x, v = 100 + t;
    BODY
    y[t] = v;
}"""


def summed(source: str, n: int, threads: int = 64) -> tuple[np.ndarray, Any]:
    out = np.zeros(2, np.float32)
    return out, CudaKernel(source)[1, threads](np.ones(n, np.float32), out, n)


def shuffled(body: str, threads: int = 32) -> tuple[np.ndarray, Any]:
    out = np.zeros(threads, np.int32)
    return out, CudaKernel(ONE.replace("BODY", body))[1, threads](out)


def test_a_shuffle_from_a_lane_that_has_returned_is_an_error_with_line_and_lane_and_gives_poison():
    out, report = summed(SUM, 40)
    (error,) = report.errors
    assert (error.kind, error.line) == ("undefined_shuffle", 5)
    assert "thread (32, 0, 0) of block (0, 0, 0)" in error.message
    assert "lane 16 " in error.message
    assert out[0] == 32
    assert np.isnan(out[1])


def test_the_same_sum_with_zeros_for_what_is_missing_is_clean():
    source = SUM.replace("if (i >= n) return;", "").replace("= x[i]", "= i < n ? x[i] : 0")
    out, report = summed(source, 40)
    assert report.errors == []
    assert out.tolist() == [32, 8]


@pytest.mark.parametrize(
    ("body", "threads"),
    [
        ("if (t < 16) v = __shfl_down_sync(0xffff, v, 8);", 32),  # lanes 8 to 15 read 16 to 23
        ("v = t < 16 ? __shfl_xor_sync(0xffff, v, 16) : v;", 32),
        ("v = __shfl_sync(0xffffffff, v, 20);", 16),  # the block has no lane 20
        ("v = __shfl_up_sync(t < 16 ? 0xffff : 0xffff0000, v, 1);", 32),  # lane 16 reads 15 of the other mask
    ],
)
def test_a_lane_that_is_switched_off_absent_or_not_in_the_mask_is_undefined(body, threads):
    out, report = shuffled(body, threads)
    assert [e.kind for e in report.errors] == ["undefined_shuffle"]
    assert 0 not in out


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("v = __shfl_down_sync(0xffffffff, v, 8);", [100 + (t + 8 if t < 24 else t) for t in range(32)]),
        ("v = __shfl_up_sync(0xffffffff, v, 1);", [100 + max(t - 1, 0) for t in range(32)]),
        (
            "if (t < 16) v = __shfl_down_sync(0xffff, v, 8, 16);",
            [100 + (t + 8 if t < 8 else t) for t in range(32)],
        ),
        (
            "if (t < 16) v = __shfl_xor_sync(0xffff, v, 8);",
            [100 + (t ^ 8 if t < 16 else t) for t in range(32)],
        ),
        ("if (t % 2) v = __shfl_sync(__activemask(), v, 3);", [103 if t % 2 else 100 + t for t in range(32)]),
        ("v = __shfl_sync(0xffffffff, v, 5, 8);", [100 + t // 8 * 8 + 5 for t in range(32)]),
    ],
)
def test_what_cuda_defines_is_clean_also_beyond_the_width(body, expected):
    out, report = shuffled(body)
    assert report.errors == []
    assert out.tolist() == expected
