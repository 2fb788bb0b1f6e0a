"""Masks of warp instructions: every lane that a mask names and that has not exited must come."""

from __future__ import annotations

import numpy as np
import pytest

from mlsys_lab.kernels import CudaKernel

HEAD = (
    'extern "C" __global__ void k(const float* x, float* y, int n) {\n int t = threadIdx.x; float v = x[t];\n'
)
ALL = "0xffffffff"
WRONG = {
    "a shuffle in a branch": (
        f"if (t < 16) v += __shfl_down_sync({ALL}, v, 16);\n y[t] = v; }}",
        "shfl",
        32,
        16,
    ),
    "a barrier of the warp in a branch": (
        f"if (t < 16) __syncwarp({ALL});\n y[t] = v; }}",
        "__syncwarp",
        32,
        16,
    ),
    "a vote in a branch, then a barrier": (
        f"if (t < 8) v = __ballot_sync({ALL}, v > 0);\n __syncthreads(); y[t] = v; }}",
        "vote",
        32,
        8,
    ),
    "a mask of half a warp": ("if (t < 4) v = __shfl_sync(0xffff, v, 0);\n y[t] = v; }", "shfl", 16, 4),
    "a loop that lanes leave early": (
        f'_Pragma("unroll 1") for (int i = 0; i < t; ++i) v += __shfl_sync({ALL}, v, 0);\n y[t] = v; }}',
        "shfl",
        32,
        31,
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mask_that_names_lanes_that_never_come_is_an_error_with_both_numbers(case):
    body, what, named, ran = WRONG[case]
    report = CudaKernel(HEAD + body)[1, 32](np.ones(32, np.float32), np.zeros(32, np.float32), 32)
    found = report.errors[0]
    assert (found.kind, found.line) == ("divergent_barrier", 3), report.errors
    assert found.message.startswith(f"line 3: the mask of {what} names {named} lanes, {ran} run it")


FINE = {
    "all lanes": (f"y[t] = __shfl_down_sync({ALL}, v, 16); }}", 32),
    "the mask of the branch": ("if (t < 16) v += __shfl_down_sync(0xffff, v, 8);\n y[t] = v; }", 32),
    "lanes that returned before": (f"if (t >= n) return;\n y[t] = __shfl_down_sync({ALL}, v, 1); }}", 32),
    "lanes that wrote and returned": (
        f"if (t >= n) {{ atomicAdd(y, 1.0f); return; }}\n v = __shfl_down_sync({ALL}, v, 1); y[t] = v; }}",
        32,
    ),
    "a block of no whole warp": (f"v += __shfl_xor_sync({ALL}, v, 1); __syncwarp(); y[t] = v; }}", 20),
    "lanes that parted and met": (
        f"if (t & 1) v *= 2; else v = v * v + t;\n v += __shfl_xor_sync({ALL}, v, 1); y[t] = v; }}",
        32,
    ),
}


@pytest.mark.parametrize("case", FINE)
def test_lanes_that_exited_or_do_not_exist_count_as_absent(case):
    body, threads = FINE[case]
    report = CudaKernel(HEAD + body)[1, threads](np.ones(32, np.float32), np.zeros(32, np.float32), 20)
    # what lanes read of absent ones is another matter, see test_shuffles.py
    assert [e for e in report.errors if e.kind != "undefined_shuffle"] == []
