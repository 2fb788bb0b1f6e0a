"""Lab 08b: its checks pass the reference and fail wrong kernels; what its text claims is so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autograder.local import LocalSession
from autograder.machine import is_installed
from autograder.pair import read_source
from autograder.reference import reference
from autograder.run_tests import TestResult, run_tests
from mlsys_lab.kernels import CudaKernel, Report

ROOT = Path(__file__).resolve().parents[2]
CHECKS = [ROOT / "labs" / "checks" / "test_08b.py"]
CELLS = [c.source for c in read_source(ROOT / "labs" / "08b_matmul.py").cells]
NAMES = {"q1": "coalesced", "q2": "tiled", "q3": "padded", "q4": "registers"}
N = 128
STEPS = N**3 / 32  # multiply-adds of a warp

pytestmark = pytest.mark.skipif(not is_installed("nvrtc"), reason="no compiler of CUDA C++")


def results(question: str, function: Callable[[], object]) -> list[TestResult]:
    found = run_tests(CHECKS, LocalSession({}, function), seed=7, question=question)
    assert found
    return found


def failed(question: str, function: Callable[[], object]) -> list[str]:
    return [r.name for r in results(question, function) if not r.passed]


def kernel(question: str) -> str:
    return str(reference(ROOT, "lab08b", question)[NAMES[question]]())


def changed(question: str, *pairs: tuple[str, str]) -> str:
    """The reference with some text replaced: a wrong kernel that looks right."""
    source = kernel(question)
    for old, new in pairs:
        assert old in source, old
        source = source.replace(old, new)
    return source


def text_of(name: str) -> str:
    """A kernel that stands open in the lab."""
    (cell,) = [c for c in CELLS if f"__global__ void {name}(" in c and "SOLUTION" not in c]
    found = re.search(rf'extern "C" __global__ void {name}\(.*?\n\}}', cell, re.DOTALL)
    assert found is not None
    return found[0]


def without_last_barrier(question: str) -> str:
    before, _, after = kernel(question).rpartition("__syncthreads();")
    return before + after


def without_first_barrier(question: str) -> str:
    before, _, after = kernel(question).partition("__syncthreads();")
    return before + after


WRONG: dict[str, tuple[str, Callable[[], str]]] = {
    "naive under another name": ("q1", lambda: text_of("naive").replace("naive", "coalesced")),
    "columns and rows swapped in c": ("q1", lambda: changed("q1", ("c[row * n + col]", "c[col * n + row]"))),
    "one step short": ("q1", lambda: changed("q1", ("k < n", "k < n - 1"))),
    "no tiles": ("q2", lambda: kernel("q1").replace("coalesced", "tiled")),
    "no last barrier": ("q2", lambda: without_last_barrier("q2")),
    "no first barrier": ("q2", lambda: without_first_barrier("q2")),
    "barriers for half of the block": (
        "q2",
        lambda: kernel("q2").replace("__syncthreads();", "if (y < 16) __syncthreads();"),
    ),
    "barrier in an if that half of the block takes": (
        "q4",
        lambda: kernel("q4").replace("__syncthreads();", "if (y < 4) { __syncthreads(); }"),
    ),
    "tile of b turned": (
        "q2",
        lambda: changed("q2", ("bs[y][x] =", "bs[x][y] ="), ("bs[j][x]", "bs[x][j]")),
    ),
    "first tile only": ("q2", lambda: changed("q2", ("k < n", "k < 32"))),
    "tiles fetched down columns": (
        "q2",
        lambda: changed(
            "q2",
            ("as[y][x] = a[row * n + k + x]", "as[x][y] = a[(blockIdx.y * 32 + x) * n + k + y]"),
        ),
    ),
    "as it was": ("q3", lambda: text_of("turned")),
    "the other tile padded": (
        "q3",
        lambda: text_of("turned").replace("left[32][32]", "left[32][33]"),
    ),
    "two words of padding": ("q3", lambda: text_of("turned").replace("right[32][32]", "right[32][34]")),
    "not turned": ("q3", lambda: kernel("q2").replace("tiled", "turned")),
    "straight from memory": (
        "q3",
        lambda: kernel("q1").replace("coalesced", "turned").replace("b[k * n + col]", "b[col * n + k]"),
    ),
    "one result per thread": ("q4", lambda: kernel("q2").replace("tiled", "registers")),
    "four neighbouring rows, one written": ("q4", lambda: changed("q4", ("c[(row + 8 * r)", "c[(row + r)"))),
    "no last barrier in registers": ("q4", lambda: without_last_barrier("q4")),
    "the four in the outer loop": (
        "q4",
        lambda: changed(
            "q4",
            (
                "for (int j = 0; j < 32; ++j)\n            for (int r = 0; r < 4; ++r) sum[r] +=",
                "for (int r = 0; r < 4; ++r)\n#pragma unroll 1\nfor (int j = 0; j < 32; ++j) sum[r] +=",
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_kernel_loses_points(name):
    question, made = WRONG[name]
    source = made()
    assert failed(question, lambda: source)


@pytest.mark.parametrize("question", NAMES)
def test_the_reference_passes(question):
    assert failed(question, lambda: kernel(question)) == []


@pytest.mark.parametrize("question", ["q1", "q2", "q4"])
def test_an_empty_kernel_is_not_solved_yet(question):
    empty = kernel(question).split("{")[0] + "{\n    }"
    assert all(r.message.startswith("NotImplementedError") for r in results(question, lambda: empty))


def test_a_turned_kernel_rewritten_in_ones_own_words_passes():
    own = text_of("turned").replace("[32][32]", "[32][33]").replace("right", "other").replace("left", "one")
    assert failed("q3", lambda: own) == []


def launched(source: str, tile: int, rows: int) -> Report:
    a, c = np.ones((N, N), np.float32), np.zeros((N, N), np.float32)
    report = CudaKernel(source)[(N // 32, N // tile), (32, rows)](a, a, c, N)
    assert report is not None
    return report


def test_the_sectors_of_the_text_are_those_of_the_report():
    for source, shape, sectors in (
        (text_of("naive"), (8, 8), 33),
        (kernel("q1"), (8, 8), 5),
        (kernel("q2"), (32, 32), 0.25),
        (kernel("q4"), (32, 8), 0.25),
    ):
        assert launched(source, *shape).global_loads.sectors / STEPS == sectors


def test_the_wavefronts_of_the_text_are_those_of_the_report():
    tile_stores = 1 / 16  # each of two tiles is stored once for 32 multiply-adds
    for source, shape, wavefronts in (
        (kernel("q2"), (32, 32), 2 + tile_stores),
        (text_of("turned"), (32, 32), 33 + tile_stores),
        (kernel("q3"), (32, 32), 2 + tile_stores),
        (kernel("q4"), (32, 8), 1.25 + tile_stores),
    ):
        assert launched(source, *shape).shared.wavefronts / STEPS == wavefronts


def test_a_missing_last_barrier_gives_the_right_product_here_and_a_race():
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=(N, N)).astype(np.float32) for _ in range(3))
    report = CudaKernel(without_last_barrier("q2"))[(4, 4), (32, 32)](a, b, c, N)
    assert report is not None
    np.testing.assert_allclose(c, a @ b, atol=1e-3)
    assert {r.lines for r in report.races} == {(10, 7), (10, 8)}


def test_the_roofs_of_an_h100_follow_from_its_data_sheet():
    multiprocessors, clock = 132, 1.98e9
    assert multiprocessors * clock * 4 * 32 * 2 == pytest.approx(67e12, rel=0.01)
    assert 3.35e12 / (multiprocessors * clock) == pytest.approx(12.8, rel=0.01)
    uses = 67e12 / 3.35e12 * 8 / 2
    assert uses == pytest.approx(80)


def test_four_by_four_results_leave_less_than_a_wavefront():
    source = """extern "C" __global__ void k(const float* a, const float* b, float* c, int n) {
        __shared__ float as[64][33], bs[32][64];
        int x = threadIdx.x, y = threadIdx.y, t = y * 16 + x, top = blockIdx.y * 64, left = blockIdx.x * 64;
        float sum[4][4] = {};
        for (int k = 0; k < n; k += 32) {
            for (int i = t; i < 2048; i += 256) {
                as[i / 32][i % 32] = a[(top + i / 32) * n + k + i % 32];
                bs[i / 64][i % 64] = b[(k + i / 64) * n + left + i % 64];
            }
            __syncthreads();
            for (int j = 0; j < 32; ++j)
                for (int r = 0; r < 4; ++r)
                    for (int s = 0; s < 4; ++s) sum[r][s] += as[y + 16 * r][j] * bs[j][x + 16 * s];
            __syncthreads();
        }
        for (int r = 0; r < 4; ++r)
            for (int s = 0; s < 4; ++s) c[(top + y + 16 * r) * n + left + x + 16 * s] = sum[r][s];
    }"""
    a, b, c = np.random.default_rng(0).normal(size=(3, N, N)).astype(np.float32)
    report = CudaKernel(source)[(N // 64, N // 64), (16, 16)](a, b, c, N)
    assert report is not None
    np.testing.assert_allclose(c, a @ b, atol=1e-3)
    assert report.shared.wavefronts / STEPS < 0.6
