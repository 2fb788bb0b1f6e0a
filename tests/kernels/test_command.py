"""`mlsys-lab kernel`: what it prints, its exit codes, its one clear line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlsys_lab.kernels import CompileError, CudaKernel
from mlsys_lab.kernels.frontend import FOLDER, to_cubin
from tests.kernels.conftest import needs_nvrtc

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; sys.argv[0] = 'mlsys-lab'; from mlsys_lab.cli import main; main()"
SAXPY = """extern "C" __global__ void saxpy(float a, const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += a * x[i];
}"""
ARGUMENTS = ("--arg", "f32:2", "--arg", "f32[1000]:random", "--arg", "f32[1000]:ones")


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "saxpy.cu").write_text(SAXPY)
    return subprocess.run(
        [sys.executable, "-c", MAIN, "kernel", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_prints_the_report_as_text_json_and_html(tmp_path):
    shape = ("saxpy.cu", "--grid", "4", "--block", "256", *ARGUMENTS, "--arg", "i32:1000")
    done = run(tmp_path, *shape)
    assert done.returncode == 0, done.stderr
    assert "64 requests" in done.stdout
    assert "    3 " in done.stdout
    assert "no error and no race found" in done.stdout
    done = run(tmp_path, *shape, "--json", "--html", "out.html")
    found = json.loads(done.stdout)
    loads = {"requests": 64, "sectors": 250, "bytes": 8000, "distinct": 8000, "fewest": 250}
    assert found["global_loads"] == loads
    assert found["global_stores"]["sectors"] == 125
    assert found["flops"] == 2000
    assert "y[i] += a * x[i];" in (tmp_path / "out.html").read_text("utf-8")


@needs_nvrtc
def test_for_a_gpu_it_adds_occupancy_from_machine_code_and_a_roofline_that_is_called_a_model(tmp_path):
    shape = ("saxpy.cu", "--grid", "4", "--block", "256", *ARGUMENTS, "--arg", "i32:1000", "--gpu", "H100")
    done = run(tmp_path, *shape, "--json")
    found = json.loads(done.stdout)["gpu"]
    assert found["spill_bytes"] == 0
    assert 0 < found["registers"] <= 32
    assert found["occupancy"] == 1
    assert found["model_time_s"] == pytest.approx(375 * 32 / 3350e9)
    text = run(tmp_path, *shape, "--html", "out.html").stdout
    assert "model: at least" in text
    page = (tmp_path / "out.html").read_text("utf-8")
    assert "on H100: " in page
    assert "model: at least" in page
    assert "bound by memory" in text


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    shape = ("saxpy.cu", "--grid", "4", "--block", "256", *ARGUMENTS, "--arg", "i32:1000")
    done = run(tmp_path, *shape, "--html", "not there/x.html")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "x.html cannot be written (No such file or directory): give another --html" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("nowhere.cu",), 2, "nowhere.cu is not there"),
        (("saxpy.cu", "--name", "daxpy"), 2, "there is no kernel 'daxpy'; there are: saxpy"),
        (("saxpy.cu", "--grid", "four"), 2, "--grid takes whole numbers like 128,2, got 'four'"),
        (("saxpy.cu", "--arg", "float"), 2, "write f32[1024]:random or i32:1024"),
        (("saxpy.cu", "--arg", "f32[8]:sevens"), 2, "an array is filled with one of zeros"),
        (
            ("saxpy.cu", "--arg", "f32[99999999999]"),
            2,
            "--arg 'f32[99999999999]': an array here has at most 1,073,741,824 bytes: take a smaller one",
        ),
        (
            ("saxpy.cu", *ARGUMENTS, "--arg", "i32:9", "--seconds", "0"),
            2,
            "seconds is what a launch may take, more than 0, got 0.0",
        ),
        (("saxpy.cu", *ARGUMENTS), 2, "saxpy takes 4 arguments (a, x, y, n), got 3"),
        (("saxpy.cu", "--block", "2048", *ARGUMENTS, "--arg", "i32:9"), 2, "a block has 1 to 1024 threads"),
        (
            ("saxpy.cu", *ARGUMENTS, "--arg", "i32:9", "--gpu", "H300"),
            2,
            "there is no GPU 'H300' here; there are: A100",
        ),
        (("saxpy.cu", "--grid", "40", *ARGUMENTS, "--arg", "i32:2000"), 1, "x[1000], which has 1000"),
    ],
)
def test_wrong_use_is_one_line_and_a_fault_of_the_kernel_exit_code_1(words, code, says, tmp_path):
    done = run(tmp_path, *words)
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if code == 2:
        assert len(done.stderr.strip().splitlines()) == 1


@needs_nvrtc
@pytest.mark.parametrize("gpu", [(), ("--gpu", "H100")])
def test_a_kernel_of_wgmma_is_compiled_for_what_has_it_and_its_first_such_instruction_is_named(gpu, tmp_path):
    file = str(FOLDER / "matmul_wgmma.cu")
    done = run(tmp_path, file, "--block", "288", "--shared", "200000", *gpu)
    assert done.returncode == 2
    line = int(re.search(r"line (\d+): the instruction (wgmma|setmaxnreg)", done.stderr)[1])
    assert re.search("wgmma|setmaxnreg", Path(file).read_text().splitlines()[line - 1])
    assert "a GPU of sm_90a runs it" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_of_several_kernels_one_is_to_be_named(tmp_path):
    (tmp_path / "two.cu").write_text(SAXPY + SAXPY.replace("saxpy", "again"))
    done = run(tmp_path, "two.cu")
    assert done.returncode == 2
    assert "the source has several kernels, name one; there are: again, saxpy" in done.stderr


DYNAMIC = """extern "C" __global__ void k(float* x) {
    extern __shared__ float s[];
    s[threadIdx.x] = x[threadIdx.x]; __syncthreads(); x[threadIdx.x] = s[31 - threadIdx.x];
}"""
HUNGRY = """extern "C" __global__ __launch_bounds__(256) void k(float* y) {
    float v[100];
    for (int i = 0; i < 100; ++i) v[i] = y[i * 1024 + threadIdx.x];
    __syncthreads();
    for (int i = 0; i < 100; ++i) y[i * 1024 + threadIdx.x] = v[i] - 2 * v[99 - i];
}"""


@pytest.mark.parametrize(
    ("source", "words", "code", "says"),
    [
        (DYNAMIC, ("--shared", "150000", "--gpu", "A6000"), 2, "a block of sm_86 has at most 101376 bytes"),
        pytest.param(
            *(DYNAMIC, ("--shared", "220000", "--gpu", "H100"), 0, "220,000 bytes shared"), marks=needs_nvrtc
        ),
        pytest.param(
            *(HUNGRY, ("--block", "1024", "--gpu", "A100"), 2, "no block of 1024 threads of k fits"),
            marks=needs_nvrtc,
        ),
    ],
)
def test_the_limits_of_the_chosen_gpu_hold(source, words, code, says, tmp_path):
    (tmp_path / "k.cu").write_text(source)
    done = run(tmp_path, "k.cu", "--arg", "f32[102400]", *words)
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stdout + done.stderr
    assert code == 0 or len(done.stderr.strip().splitlines()) == 1


@needs_nvrtc
def test_of_the_assemblers_log_only_the_errors_are_told():
    source = DYNAMIC.replace("extern __shared__ float s[];", "__shared__ float s[20000];")
    with pytest.raises(CompileError, match=r"^ptxas error .* uses too much shared data") as told:
        to_cubin(source)
    assert "info" not in str(told.value)


SAYS = """extern "C" __global__ void k(const char* names) {
    __shared__ char own[4];
    char mine[3] = {'t', (char)('0' + threadIdx.x), 0};
    if (threadIdx.x == 0) { own[0] = 'o'; own[1] = 'k'; own[2] = 0; }
    __syncthreads();
    printf("%d of %s: %s, %s, %s, %.2f, %zu %c\\n", threadIdx.x,
        "all", mine, own, names, 0.5, sizeof(1), 'z');
}"""


def test_what_a_kernel_prints_is_printed_and_its_texts_come_from_memory(tmp_path):
    (tmp_path / "k.cu").write_text(SAYS)
    said = [f"{i} of all: t{i}, ok, , 0.50, 4 z\n" for i in range(2)]
    words = ("k.cu", "--block", "2", "--arg", "i8[8]")
    done = run(tmp_path, *words, "--html", "out.html")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "printed:\n" + "".join(said) in done.stdout
    assert said[1] in (tmp_path / "out.html").read_text("utf-8")
    assert json.loads(run(tmp_path, *words, "--json").stdout)["printed"] == said
    report = CudaKernel(SAYS)[1, 1](np.frombuffer(b"ab\0c", np.int8).copy())
    assert report.printed == ["0 of all: t0, ok, ab, 0.50, 4 z\n"]


def test_a_text_that_is_nowhere_is_told_as_such():
    source = 'extern "C" __global__ void k(char* y) { printf("%s %d", y + 100000000, 7); }'
    report = CudaKernel(source)[1, 1](np.zeros(4, np.int8))
    (said,) = report.printed
    assert re.fullmatch(r"\(no text at 0x7000[0-9a-f]+\) 7", said)
