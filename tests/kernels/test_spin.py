"""A launch without an end stops early where that is certain, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from mlsys_lab.kernels import CudaKernel

HEAD = 'extern "C" __global__ void k(int* lock, volatile int* x) {\n'
ENDLESS = {
    "a lock never released": ("while (atomicCAS(lock, 0, 1) != 0);\n__threadfence(); x[0] += 1; }", 2),
    "one that counts its tries": (
        "int n = 0;\nwhile (atomicCAS(lock, 0, 1) != 0) n++;\n__threadfence(); x[0] += n; }",
        3,
    ),
    "a flag that nobody sets": ("\nwhile (x[0] == 0);\nx[1] = 1; }", 3),
    "one thread, the others at a barrier": (
        "if (threadIdx.x == 0)\n  while (atomicAdd(lock, 0) == 0);\n__syncthreads(); x[0] = 1; }",
        3,
    ),
    "a loop of registers alone": (
        'x[0] = 1;\nif (threadIdx.x == 5)\n  while (true) asm volatile("");\nx[1] = 2; }',
        4,
    ),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_a_spin_on_what_nobody_changes_ends_soon_with_its_line(case):
    body, line = ENDLESS[case]
    kernel = CudaKernel(HEAD + body)
    report = kernel[2, 64](np.zeros(4, np.int32), np.zeros(4, np.int32))
    assert [(e.kind, e.line) for e in report.errors] == [("step_limit", line)]
    assert f"threads spin in line {line} on what nobody changes" in report.errors[0].message
    assert report.instructions < 200_000  # of 2,000,000 steps that it may take


WORK = "unsigned s = 1; for (int i = 0; i < 5000; ++i) s = s * 1664525u + 1013904223u;"
ENDING = {
    "the lock is released after long work": (
        f"""if (threadIdx.x % 32 == 0) {{
            while (atomicCAS(lock, 0, 1) != 0);
            __threadfence(); {WORK} x[0] += 1; x[1] = s; __threadfence();
            atomicExch(lock, 0);
        }} }}""",
        4,
    ),
    "the flag comes after long work": (
        f"""if (blockIdx.x == 1) {{ if (threadIdx.x == 0) {{ {WORK} x[1] = s; __threadfence(); x[2] = 1; }} }}
            else {{ while (x[2] == 0); if (threadIdx.x == 0) atomicAdd((int*)x, 4); }} }}""",
        4,
    ),
    "tries are counted and given up": (
        """int n = 0; while (n < 3000 && atomicAdd(lock, 0) == 0) n++;
            if (threadIdx.x + blockIdx.x == 0) x[0] = n / 750; }""",
        4,
    ),
}


@pytest.mark.parametrize("case", ENDING)
def test_a_wait_that_ends_is_not_stopped(case):
    body, expected = ENDING[case]
    x = np.zeros(4, np.int32)
    report = CudaKernel(HEAD + body)[2, 64](np.zeros(4, np.int32), x)
    assert report.errors == []
    assert x[0] == expected
