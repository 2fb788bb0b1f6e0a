"""Wrong input to `CudaKernel`: the exception or the entry of the report, and what it says."""

from __future__ import annotations

import numpy as np
import pytest

from mlsys_lab.kernels import CompileError, CudaKernel, NoFrontEnd, NotSimulated, frontend
from mlsys_lab.kernels.shuffles import Shuffling

COPY = """extern "C" __global__ void copy(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i];
}"""
DYNAMIC = """extern "C" __global__ void k(float* x) {
    extern __shared__ float s[];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = s[31 - threadIdx.x];
}"""
STATIC = DYNAMIC.replace("extern __shared__ float s[];", "__shared__ float s[20000];")
CLOCK = """extern "C" __global__ void k(long long* y) {
    long long now =
        TIME;
    y[threadIdx.x] = now;
}"""
TWO = COPY + COPY.replace("copy", "again")


def floats(n: int = 64) -> np.ndarray:
    return np.zeros(n, np.float32)


CASES = {
    "does not compile": (
        lambda: CudaKernel('extern "C" __global__ void k(float* y) {\n    y[0] = z;\n}'),
        CompileError,
        r"""line 2: (identifier "z" is undefined|use of undeclared identifier 'z')""",
    ),
    "no kernel at all": (
        lambda: CudaKernel("__device__ int f() { return 1; }"),
        CompileError,
        "the source has no kernel",
    ),
    "unknown name": (
        lambda: CudaKernel(TWO, "paste"),
        ValueError,
        r"no kernel 'paste'; there are: again, copy",
    ),
    "several, none named": (lambda: CudaKernel(TWO), ValueError, "there are: again, copy"),
    "a path as text": (
        lambda: CudaKernel("/a (1)/copy.cu"),
        ValueError,
        r"'/a \(1\)/copy\.cu' is taken for the text .*: pass pathlib\.Path\('/a \(1\)/copy\.cu'\)",
    ),
    "a GPU for an architecture": (
        lambda: CudaKernel(COPY, arch="H100"),
        ValueError,
        r"there is no architecture 'H100' \(H100 is sm_90\); there are: sm_.*sm_90",
    ),
    "an architecture that nobody has": (
        lambda: CudaKernel(COPY, arch="sm_13"),
        ValueError,
        r"there is no architecture 'sm_13'; there are: sm_",
    ),
    "a name that C++ changed": (
        lambda: CudaKernel(COPY.replace('extern "C" ', ""), "copy"),
        ValueError,
        r"C\+\+ calls it _Z4copy\w+: declare it extern \"C\" __global__ void copy\(",
    ),
    "clock64": (
        lambda: CudaKernel(CLOCK.replace("TIME", "clock64()")),
        NotSimulated,
        r"line 3: clock\(\) and clock64\(\) are not simulated: the report counts instructions, ",
    ),
    "clock": (
        lambda: CudaKernel(CLOCK.replace("TIME", "clock()")),
        NotSimulated,
        r"line 3: clock\(\) and clock64\(\) are not",
    ),
    "too few arguments": (
        lambda: CudaKernel(COPY)[1, 32](floats(), floats()),
        TypeError,
        r"copy takes 3 arguments \(x, y, n\), got 2",
    ),
    "a list for an array": (
        lambda: CudaKernel(COPY)[1, 32]([1.0], floats(), 1),
        TypeError,
        "x of copy takes an array of float, got list",
    ),
    "another dtype": (
        lambda: CudaKernel(COPY)[1, 32](np.zeros(4), floats(), 4),
        TypeError,
        r"x of copy points at float, got float64: \.astype\('float32'\)",
    ),
    "an array for a number": (
        lambda: CudaKernel(COPY)[1, 32](floats(), floats(), floats()),
        TypeError,
        "n of copy is a value of type u32, got an array: pass a number",
    ),
    "a fraction for an int": (
        lambda: CudaKernel(COPY)[1, 32](floats(), floats(), 1.5),
        TypeError,
        r"n of copy is an integer, got 1\.5",
    ),
    "more than an int holds": (
        lambda: CudaKernel(COPY)[1, 32](floats(), floats(), 2**40 + 5),
        TypeError,
        r"n of copy is an int, from -2147483648 to 2147483647, got 1099511627781: declare it long long",
    ),
    "less than an unsigned holds": (
        lambda: CudaKernel(COPY.replace("int n", "unsigned n"))[1, 32](floats(), floats(), -1),
        TypeError,
        r"n of copy is an unsigned, from 0 to 4294967295, got -1: declare it int",
    ),
    "more than any integer holds": (
        lambda: CudaKernel(COPY)[1, 32](floats(), floats(), 2**64),
        TypeError,
        r"got 18446744073709551616: no integer type holds it",
    ),
    "no number for an int": (
        lambda: CudaKernel(COPY)[1, 32](floats(), floats(), float("nan")),
        TypeError,
        "n of copy is an integer, got nan",
    ),
    "more than a float holds": (
        lambda: CudaKernel(COPY.replace("int n", "float n"))[1, 32](floats(), floats(), 1e39),
        TypeError,
        r"n of copy is a float, which holds less than 3\.5e38, got 1e\+39: declare it double",
    ),
    "fractions of blocks": (
        lambda: CudaKernel(COPY)[1.9, 4.7],
        TypeError,
        r"a grid or block has whole sizes, got 1\.9: write n // 256 or \(n \+ 255\) // 256",
    ),
    "fractions of bytes": (
        lambda: CudaKernel(COPY)[1, 32, 4.5],
        TypeError,
        r"shared_bytes is a whole number, got 4\.5",
    ),
    "no source": (
        lambda: CudaKernel(None),
        TypeError,
        "the source is CUDA C\\+\\+ as text, or the path of a file, got NoneType",
    ),
    "not contiguous": (
        lambda: CudaKernel(COPY)[1, 32](floats()[::2], floats(), 4),
        TypeError,
        r"x of copy is not contiguous: pass np\.ascontiguousarray",
    ),
    "grid of 0": (
        lambda: CudaKernel(COPY)[0, 32],
        ValueError,
        r"a grid has 1 to .* blocks .*got \(0, 1, 1\)",
    ),
    "grid too large": (lambda: CudaKernel(COPY)[(1, 70_000), 32], ValueError, r"got \(1, 70000, 1\)"),
    "block of 0": (lambda: CudaKernel(COPY)[1, 0], ValueError, r"a block has 1 to 1024 threads"),
    "block too large": (lambda: CudaKernel(COPY)[1, (64, 32)], ValueError, r"got \(64, 32, 1\)"),
    "too much shared memory": (
        lambda: CudaKernel(COPY)[1, 32, 200_000],
        ValueError,
        "a block of sm_80 has at most 166912 bytes of shared memory, got 200000",
    ),
    "too much shared memory for another GPU": (
        lambda: CudaKernel(DYNAMIC, arch="sm_86")[1, 32, 150_000],
        ValueError,
        "a block of sm_86 has at most 101376 bytes of shared memory, got 150000",
    ),
    "too much static shared memory": (
        lambda: CudaKernel(STATIC)[1, 32],
        ValueError,
        r"k has 80000 bytes of static shared memory, at most 49152 are allowed: make it dynamic",
    ),
    "no GPU": (
        lambda: CudaKernel(COPY)[1, 32](floats(), floats(), 4, device="gpu"),
        RuntimeError,
        'no GPU: .*device="simulator"',
    ),
    "another device": (
        lambda: CudaKernel(COPY)[1, 32](floats(), floats(), 4, device="tpu"),
        ValueError,
        "device is 'simulator' or 'gpu', got 'tpu'",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_refused_before_the_launch(case):
    act, error, message = CASES[case]
    with pytest.raises(error, match=message):
        act()


def test_without_any_front_end_the_command_that_installs_one_is_named(monkeypatch):
    monkeypatch.setattr(frontend, "nvrtc", lambda: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NoFrontEnd, match=r'pip install "mlsys-lab-course\[kernels\]"'):
        CudaKernel(COPY.replace("copy", "nowhere"))


RECORDED = {
    "an infinite loop": ("while (true) y[0] += 1;", "step_limit", "an infinite loop"),
    "a write out of bounds": ("y[1 << 20] = 1;", "out_of_bounds", r"writes y\[\d+\], which has 64"),
    "a sum that nobody began": (
        "float s; for (int i = 0; i < (int)y[5]; ++i) s += y[i]; y[0] = s;",
        "uninitialised",
        r"line 2: reads a variable that nobody has set",
    ),
    "a trap": (
        "if (threadIdx.x == 7) __trap(); y[0] = 1;",
        "trap",
        r"line 2: thread \(7, 0, 0\) of block \(0, 0, 0\) runs __trap\(\), which ends the launch",
    ),
    "a write below": ("y[-3] = 1;", "out_of_bounds", r"writes y\[-3\]"),
    "a read out of bounds": ("y[0] = y[threadIdx.x + 40];", "out_of_bounds", r"reads y\[64\], which has 64"),
}


@pytest.mark.parametrize("case", RECORDED)
def test_what_goes_wrong_in_the_launch_is_recorded_and_the_launch_returns(case):
    body, kind, message = RECORDED[case]
    kernel = CudaKernel(f'extern "C" __global__ void k(volatile float* y) {{\n    {body}\n}}')
    report = kernel[1, 32](floats(), steps=500)
    assert [e.kind for e in report.errors] == [kind]
    assert report.errors[0].line == 2
    import re

    assert re.search(message, report.errors[0].message), report.errors[0].message


def test_an_error_within_an_instruction_names_it_and_its_line(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("as a fault of the machine would be")

    monkeypatch.setattr(Shuffling, "shuffle", broken)
    kernel = CudaKernel(
        'extern "C" __global__ void k(float* y) {\n float v = y[0];\n y[1] = __shfl_sync(~0u, v, 3);\n}'
    )
    with pytest.raises(
        NotSimulated,
        match=r"line 3: .* shfl\.sync\.idx\.b32 .*: ZeroDivisionError: as a",
    ):
        kernel[1, 32](floats())


def test_whole_numbers_that_fit_are_taken_whatever_their_type():
    x, y = np.arange(64, dtype=np.float32), floats()
    for n in (np.int64(64), 64.0, np.uint8(64)):
        CudaKernel(COPY)[np.int64(2), (np.int32(32), 1)](x, y, n)
    assert (x == y).all()
    wide = 'extern "C" __global__ void k(%s n, %s* y) { y[0] = n; }'
    for name, dtype, n in (("long long", np.int64, 2**53 + 1), ("unsigned long long", np.uint64, 2**64 - 1)):
        out = np.zeros(1, dtype)
        CudaKernel(wide % (name, name))[1, 1](n, out)
        assert int(out[0]) == n
