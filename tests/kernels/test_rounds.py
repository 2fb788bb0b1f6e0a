"""Barriers that some threads of a block pass by, and those that all come to."""

from __future__ import annotations

import numpy as np
import pytest

from mlsys_lab.kernels import CudaKernel, examined
from mlsys_lab.kernels.examine import conditional_barriers

HEAD = """extern "C" __global__ void k(float* y, int n) {
    __shared__ float s[256];
    int t = threadIdx.x;
    s[t] = 1;
    __syncthreads();
"""
TREE = """for (int h = 128; h > 0; h /= 2) {
 if (t < h) { s[t] += s[t + h]; SYNC }
 } if (t == 0) y[0] = s[0]; }"""


def loop(around: str) -> str:
    return f"for (int i = 0; i < n; i++) {{\n {around} __syncthreads();\n s[t] += i; }}\n y[t] = s[t]; }}"


PASSED_BY = {
    "in the arm of a tree": TREE.replace("SYNC", "__syncthreads();"),
    "before what all do": "\n if (t < n) { __syncthreads(); }\n y[t] = s[t]; }",
    "by turns of threads": loop("if (t % 2 == i % 2)"),
    "by turns of warps": loop("if (t / 32 % 2 == i % 2)"),
    "by a continue": loop("if (t == i) continue;"),
    "by a break": loop("if (t == i) break;"),
}


@pytest.mark.parametrize("case", PASSED_BY)
def test_a_barrier_that_some_threads_pass_by_is_an_error_in_its_line_though_it_opens(case):
    report = CudaKernel(HEAD + PASSED_BY[case])[2, 256](np.zeros(256, np.float32), 8)
    assert [(e.kind, e.line) for e in report.errors] == [("divergent_barrier", 7)]
    assert "passes by this __syncthreads(), others wait there" in report.errors[0].message


CLEAN = {
    "a return before it": "if (t >= n) return; __syncthreads(); y[t] = s[n - 1 - t]; }",
    "a return in a later round": """for (int i = 0;; i++) {
        if ((i >= 3 && t % 3 == 0) || i >= 9) return;
        y[t] += s[t]; __syncthreads(); s[(t + 1) % 256] = i; __syncthreads(); } }""",
    "all or none of a block": "if (blockIdx.x == 1) { __syncthreads(); } y[t + 256 * blockIdx.x] = s[t]; }",
    "in every other round": """for (int i = 0; i < 8; i++) {
        if (i % 2 == 0 && n < 200) { __syncthreads(); } else if (t % 2) y[t] += 1;
        y[t] += s[t]; __syncthreads(); if (t < n) s[255 - t] = i; __syncthreads(); } }""",
    "work that differs around it": """for (int i = 0; i < 8; i++) {
        for (int j = 0; j < t % 7; j++) y[t] += j;
        if (t % 3) y[t] += s[t];
        __syncthreads();
        if (t % 5 == 0) y[t] *= 2; } }""",
    "work in arms before and behind": """if (t % 2) s[t] = 2; else s[t] = 3;
        __syncthreads();
        if (t % 4 == 0) { y[t] = s[t]; } else if (t % 4 == 1) { y[t] = 5; return; }
        y[t] += s[255 - t]; }""",
    "as many rounds as memory tells": """for (int i = 0; i < (int)y[0] + 3; i++) {
        __syncthreads();
        if (t) s[t] += i; } }""",
}


@pytest.mark.parametrize("case", CLEAN)
def test_a_barrier_that_all_come_to_is_clean_whatever_they_do_before_and_behind(case):
    grid = 2 if "blockIdx" in CLEAN[case] else 1
    report = CudaKernel(HEAD + CLEAN[case])[grid, 256](np.zeros(512, np.float32), 100)
    assert [e for e in report.errors if e.kind == "divergent_barrier"] == []


def test_an_exercise_is_told_that_its_barrier_is_for_some_threads_alone():
    source = HEAD + "    if (t < 7) {\n        __syncthreads();\n        y[t] = s[t];\n    }\n}"
    with pytest.raises(AssertionError, match=r"line 7: only some threads .* \(`__syncthreads\(\);`\)"):
        examined(source, "k", 1, 256, np.zeros(256, np.float32), 1)
    examined(HEAD + CLEAN["a return before it"], "k", 1, 256, np.zeros(256, np.float32), 100)


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ("__syncthreads();", set()),
        ("if (a) __syncthreads();", {1}),
        ("if (a)\n  __syncthreads();\n__syncthreads();", {2}),
        ("if (a[f(b)] < c) {\n x = (1);\n __syncthreads();\n}\n__syncthreads();", {3}),
        ("if (a) x = 1; __syncthreads();", set()),
        ("if (a) x = 1; else __syncthreads();", {1}),
        ("if (a) { } else {\n __syncthreads(); }", {2}),
        ("if (a) return;\n__syncthreads();", set()),
        ("for (;;) {\n __syncthreads(); if (b) break; }", set()),
        ("if (a) for (;;) {\n __syncthreads(); }\n__syncthreads();", {2}),
        ("// if (a) {\n__syncthreads(); /* else {\n */ __syncthreads();", set()),
        ("if (a) { if (b) { x; } while (c) {\n __syncthreads(); } }", {2}),
    ],
)
def test_barriers_within_the_arms_of_an_if_are_found_in_the_text(body, lines):
    assert conditional_barriers(body) == lines
