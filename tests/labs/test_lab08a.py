"""Lab 08a: its checks pass the reference and fail wrong kernels; what its text claims is so."""

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
from mlsys_lab.kernels import CudaKernel, Report, examined, frontend
from mlsys_lab.kernels.frontend import nvrtc, to_ptx

ROOT = Path(__file__).resolve().parents[2]
CHECKS = [ROOT / "labs" / "checks" / "test_08a.py"]
TEXT = "\n".join(c.source for c in read_source(ROOT / "labs" / "08a_threads.py").cells)
NAMES = {"q1": "square", "q2": "stride_sum", "q3": "block_sum", "q4": "tree_sum", "q5": "grid_sum"}

pytestmark = pytest.mark.skipif(not is_installed("nvrtc"), reason="no compiler of CUDA C++")


def results(question: str, function: Callable[[], object]) -> list[TestResult]:
    found = run_tests(CHECKS, LocalSession({}, function), seed=7, question=question)
    assert found
    return found


def failed(question: str, function: Callable[[], object]) -> list[str]:
    return [r.name for r in results(question, function) if not r.passed]


def kernel(question: str) -> str:
    return str(reference(ROOT, "lab08a", question)[NAMES[question]]())


def changed(question: str, *pairs: tuple[str, str]) -> str:
    """The reference with some text replaced: a wrong kernel that looks right."""
    source = kernel(question)
    for old, new in pairs:
        assert old in source, old
        source = source.replace(old, new)
    return source


WRONG: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "no guard": ("q1", (("if (i < n) ", ""),)),
    "guard one too far": ("q1", (("i < n", "i <= n"),)),
    "guard one short": ("q1", (("i < n", "i < n - 1"),)),
    "one block only": ("q1", (("blockIdx.x * blockDim.x + ", ""),)),
    "blocks and threads swapped": (
        "q1",
        (("blockIdx.x * blockDim.x + threadIdx.x", "threadIdx.x * gridDim.x + blockIdx.x"),),
    ),
    "strides of a block": ("q2", (("gridDim.x * blockDim.x", "blockDim.x"),)),
    "the last ones left out": ("q2", (("j < n", "j + blockDim.x < n"),)),
    "sum not written": ("q2", (("out[t] = sum", "out[0] = sum"),)),
    "two by two": (
        "q2",
        (
            ("int j = t;", "int j = 2 * t;"),
            ("j += gridDim.x", "j += 2 * gridDim.x"),
            ("sum += x[j]", "sum += x[j] + (j + 1 < n ? x[j + 1] : 0)"),
        ),
    ),
    "no barrier": ("q3", (("__syncthreads();", ""),)),
    "barrier before the stores": (
        "q3",
        (("__syncthreads();", ""), ("s[t] = i < n", "__syncthreads(); s[t] = i < n")),
    ),
    "nothing beyond n": ("q3", (("s[t] = i < n ? x[i] : 0;", "if (i < n) s[t] = x[i];"),)),
    "always 256 values": ("q3", (("k < blockDim.x", "k < 256"),)),
    "thread 0 reads it all itself": ("q3", (("sum += s[k]", "sum += i + k < n ? x[i + k] : 0"),)),
    "tree without a barrier": ("q4", (("__syncthreads();", ""),)),
    "one barrier before the tree": ("q4", (("__syncthreads();", ""), (" : 0;", " : 0; __syncthreads();"))),
    "barrier for the threads that add alone": (
        "q4",
        (
            ("        __syncthreads();\n", ""),
            ("if (t < half) s[t] += s[t + half];", "if (t < half) { __syncthreads(); s[t] += s[t + half]; }"),
        ),
    ),
    "barrier behind the threads that add alone": (
        "q4",
        (
            ("        __syncthreads();\n", ""),
            (" : 0;", " : 0; __syncthreads();"),
            ("if (t < half) s[t] += s[t + half];", "if (t < half) { s[t] += s[t + half]; __syncthreads(); }"),
        ),
    ),
    "barrier of thread 0 alone": (
        "q3",
        (("    __syncthreads();\n", ""), ("float sum = 0;", "__syncthreads(); float sum = 0;")),
    ),
    "one step short": ("q4", (("half > 0", "half > 1"),)),
    "neighbours first, lanes apart": (
        "q4",
        (
            ("int half = blockDim.x / 2; half > 0; half /= 2", "int half = 1; half < blockDim.x; half *= 2"),
            ("t < half", "t % (2 * half) == 0"),
        ),
    ),
    "neighbours first, banks in conflict": (
        "q4",
        (
            ("int half = blockDim.x / 2; half > 0; half /= 2", "int half = 1; half < blockDim.x; half *= 2"),
            (
                "if (t < half) s[t] += s[t + half]",
                "int j = 2 * half * t; if (j < blockDim.x) s[j] += s[j + half]",
            ),
        ),
    ),
    "every lane adds to the result": ("q5", (("if (threadIdx.x % 32 == 0) ", ""),)),
    "one warp of the block": ("q5", (("threadIdx.x % 32", "threadIdx.x"),)),
    "not atomic": ("q5", (("atomicAdd(out, sum)", "out[0] += sum"),)),
    "one step of the warp short": ("q5", (("int k = 16", "int k = 8"),)),
    "an atomic per thread": (
        "q5",
        (
            ("for (int k = 16; k > 0; k /= 2) sum += __shfl_down_sync(0xffffffff, sum, k);", ""),
            ("if (threadIdx.x % 32 == 0) ", ""),
        ),
    ),
    "a return before the shuffles": (
        "q5",
        (("    float sum = 0;", ""), ("blockDim.x;", "blockDim.x; if (first >= n) return; float sum = 0;")),
    ),
    "pieces": (
        "q5",
        (
            (
                "int first = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;",
                "int all = gridDim.x * blockDim.x, each = (n + all - 1) / all, step = 1;"
                "int first = each * (blockIdx.x * blockDim.x + threadIdx.x), end = min(n, first + each);",
            ),
            ("i < n", "i < end"),
        ),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_kernel_loses_points(name):
    question, pairs = WRONG[name]
    source = changed(question, *pairs)
    assert failed(question, lambda: source)


@pytest.mark.parametrize("question", NAMES)
def test_the_reference_passes(question):
    assert failed(question, lambda: kernel(question)) == []


@pytest.mark.parametrize("question", NAMES)
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "a text; got NoneType"),
        (
            'extern "C" __global__ void k(float* x) {\n  x[0] = ;\n}',
            "expression (`x[0] = ;`)",
        ),
        ('extern "C" __global__ void other(float* x) { x[0] = 1; }', "there is no kernel"),
        ("__global__ void NAME(float* x) { x[0] = 1; }", 'declare it extern "C" __global__ void'),
    ],
)
def test_what_is_no_kernel_of_that_name_is_said_in_one_line(question, answer, says):
    answer = answer and answer.replace("NAME", NAMES[question])
    first = next(r for r in results(question, lambda: answer) if not r.passed)
    assert says in first.message
    assert "\n" not in first.message


@pytest.mark.parametrize("question", NAMES)
def test_without_a_compiler_the_command_that_installs_one_is_said_in_one_line(question, monkeypatch):
    monkeypatch.setattr(frontend, "nvrtc", lambda: None)
    monkeypatch.setattr(frontend.importlib.util, "find_spec", lambda name: None)
    first = results(question, lambda: kernel(question))[0]
    assert first.message.startswith("NoFrontEnd: no compiler for CUDA C++ is installed: pip install")


@pytest.mark.parametrize("question", NAMES)
def test_an_empty_kernel_is_not_solved_yet(question):
    empty = kernel(question).split("{")[0] + "{  // nothing yet\n    }"
    assert all(r.message.startswith("NotImplementedError") for r in results(question, lambda: empty))


@pytest.mark.skipif(nvrtc() is None, reason="another compiler than NVIDIA's")
def test_an_endless_loop_ends_and_is_named():
    source = changed("q2", ("j += gridDim.x * blockDim.x", "j += 0"))
    (first, *_) = results("q2", lambda: source)
    assert "infinite loop" in first.message


def test_a_missing_barrier_is_named_with_both_lines_though_the_sums_are_right():
    source = changed("q3", ("__syncthreads();", ""))
    right, race = results("q3", lambda: source)
    assert right.passed
    assert not race.passed
    assert "`s[t] = i < n ? x[i] : 0;`" in race.message
    assert "`for (int k = 0; k < blockDim.x; ++k) sum += s[k];`" in race.message


def launched(source: str, grid: int, block: int, n: int, outs: int) -> Report:
    report = CudaKernel(source)[grid, block](np.ones(n, np.float32), np.zeros(outs, np.float32), n)
    assert report is not None
    return report


def pieces() -> str:
    found = re.search(r'PIECES = r"""(.*?)"""', TEXT, re.DOTALL)
    assert found is not None
    return found[1]


def test_pieces_read_32_sectors_per_request_and_strides_4():
    for source, per_request in ((pieces(), 32), (kernel("q2"), 4)):
        loads = launched(source, 2, 64, 4096, 128).global_loads
        assert loads.sectors / loads.requests == per_request


def test_the_tree_takes_45_wavefronts_and_thread_0_alone_264():
    for question, wavefronts in (("q3", 264), ("q4", 45)):
        assert launched(kernel(question), 1, 256, 256, 1).shared.wavefronts == wavefronts


def test_all_ways_read_the_same_and_what_they_send_out_differs_256_fold():
    found = re.search(r'ATOMIC = r"""(.*?)"""', TEXT, re.DOTALL)
    assert found is not None
    n = 16_384
    ways = [(found[1], 64), (kernel("q3"), 64), (kernel("q4"), 64), (kernel("q5"), 8)]
    done = [launched(source, grid, 256, n, 64) for source, grid in ways]
    assert {r.global_loads.sectors for r in done} == {n // 8}
    assert [r.global_stores.bytes // 4 for r in done] == [n, 64, 64, 64]


@pytest.mark.skipif(nvrtc() is None, reason="another compiler than NVIDIA's")
def test_the_compiler_unrolls_the_loop_by_four():
    body = to_ptx(kernel("q5"))
    assert body.count("ld.global") == 5  # four together, and one for what is left


@pytest.mark.skipif(nvrtc() is None, reason="another compiler than NVIDIA's")
def test_twelve_warps_hide_500_cycles_with_four_loads_in_flight():
    report = launched(kernel("q5"), 8, 256, 16_384, 1)
    work = 4 * report.instructions / report.global_loads.requests
    assert 11 < (work + 500) / work <= 12


def test_a_quarter_of_a_million_threads_of_four_bytes_reach_the_bandwidth():
    assert 4 * 132 * 2048 / 0.3e-6 > 3.35e12 > 4 * 240_000 / 0.3e-6


def test_examined_names_the_line_of_an_access_out_of_bounds():
    source = changed("q1", ("if (i < n) ", ""))
    with pytest.raises(
        AssertionError, match=r"line 3: .* reads x\[1000\].*\(`out\[i\] = x\[i\] \* x\[i\];`\)"
    ):
        examined(source, "square", 4, 256, np.ones(1000, np.float32), np.zeros(1000, np.float32), 1000)
