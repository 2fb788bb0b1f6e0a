"""Functions that stay functions: recursion with its stack, CUDA's double functions, sums with a carry."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlsys_lab.kernels import CudaKernel, NotSimulated
from mlsys_lab.kernels.calls import STACK_BYTES
from tests.kernels.conftest import needs_nvrtc

HEAD = 'extern "C" __global__ void k(int* y) {\n    int t = blockIdx.x * blockDim.x + threadIdx.x;\n'


def fibonacci(n: int) -> int:
    golden = (1 + math.sqrt(5)) / 2
    return round(golden**n / math.sqrt(5))


def test_a_function_that_calls_itself_twice_gives_the_fibonacci_numbers():
    source = "__device__ __noinline__ int f(int n) { return n < 2 ? n : f(n - 1) + f(n - 2); }\n"
    y = np.zeros(100, np.int32)
    report = CudaKernel(source + HEAD + "    if (t < 100) y[t] = f(t % 15);\n}")[2, 64](y)
    assert y.tolist() == [fibonacci(t % 15) for t in range(100)]
    assert report.errors == report.races == []


def test_functions_that_call_each_other_keep_their_own_values():
    source = """__device__ __noinline__ int odd(int n, int* y);
    __device__ __noinline__ int even(int n, int* y) { return n == 0 ? 1 : odd(n - 1, y) + (n & 1) * 100; }
    __device__ __noinline__ int odd(int n, int* y) { return n == 0 ? 0 : even(n - 1, y) + (y != 0) * 1000; }
    """

    def even(n: int) -> int:
        return 1 if n == 0 else odd(n - 1) + (n & 1) * 100

    def odd(n: int) -> int:
        return 0 if n == 0 else even(n - 1) + 1000

    y = np.zeros(32, np.int32)
    report = CudaKernel(source + HEAD + "    y[t] = even(t % 9, y) - odd(t % 7, y);\n}")[1, 32](y)
    assert y.tolist() == [even(t % 9) - odd(t % 7) for t in range(32)]
    assert report.errors == []


def test_a_result_is_known_after_a_call_of_ackermanns_function_within_its_own_argument():
    source = """__device__ __noinline__ int a(int m, int n) {
        return m == 0 ? n + 1 : n == 0 ? a(m - 1, 1) : a(m - 1, a(m, n - 1));
    }
    """
    y = np.zeros(32, np.int32)
    CudaKernel(source + HEAD + "    y[t] = a(t / 16 + 1, t % 4);\n}")[1, 32](y)
    m, n = np.arange(32) // 16 + 1, np.arange(32) % 4
    assert y.tolist() == np.where(m == 1, n + 2, 2 * n + 3).tolist()


def test_a_function_of_several_places_is_there_for_each_with_structs_and_floats():
    source = """struct Pair { float a; double b; int c[2]; };
    __device__ __noinline__ Pair turned(Pair p, float by) { return {p.a * by, p.b - by, {p.c[1], p.c[0]}}; }
    extern "C" __global__ void k(double* y) {
        int t = threadIdx.x;
        Pair p = turned({(float)t, 2.0 * t, {t, -t}}, 2);
        if (t % 2) p = turned(p, 4);
        y[t] = p.a + p.b + 10 * p.c[0] + p.c[1];
    }"""
    y = np.zeros(32)
    CudaKernel(source)[1, 32](y)
    once = [2 * t + (2 * t - 2) - 10 * t + t for t in range(32)]
    twice = [8 * t + (2 * t - 6) + 10 * t - t for t in range(32)]
    assert y.tolist() == [twice[t] if t % 2 else once[t] for t in range(32)]


def test_a_recursion_without_an_end_fills_its_stack_and_names_line_and_thread():
    source = "__device__ __noinline__ int f(int n) {\n    return n == 7 ? 7 : f(n + 1) * f(n + 2);\n}\n"
    y = np.zeros(32, np.int32)
    report = CudaKernel(source + HEAD + "    if (t == 9) y[t] = f(t);\n}")[1, 32](y)
    assert [(e.kind, e.line) for e in report.errors] == [("stack_overflow", 2)]
    assert f"thread (9, 0, 0) of block (0, 0, 0) has filled its stack of {STACK_BYTES:,} bytes" in str(report)


def test_a_function_by_pointer_is_refused_with_its_line():
    source = """__device__ int one(int n) { return n + 1; }
    __device__ int two(int n) { return n + 2; }
    typedef int (*F)(int);
    __device__ F table[2] = {one, two};
    extern "C" __global__ void k(int* y) {
        y[0] = table[y[0] & 1](y[1]);
    }"""
    with pytest.raises((NotSimulated, ValueError), match="not simulated"):
        CudaKernel(source)[1, 1](np.zeros(2, np.int32))


DOUBLES = {
    "sin": (np.sin, [*np.linspace(-40, 40, 50), 1e5, -1e9, 3e15, 1e300, 0.0]),
    "cos": (np.cos, [*np.linspace(-40, 40, 50), 1e5, -1e9, 3e15, 1e300, 0.0]),
    "tan": (np.tan, [*np.linspace(-40, 40, 50), 1e9]),
    "exp": (np.exp, [*np.linspace(-700, 700, 50), -745.0, -800.0, 800.0, 0.0]),
    "log": (np.log, [*np.geomspace(1e-300, 1e300, 50), 5e-324, 0.0, np.inf]),
    "log1p": (np.log1p, [*np.geomspace(1e-15, 1e15, 50)]),
    "tanh": (np.tanh, [*np.linspace(-5, 5, 50)]),
    "sqrt": (np.sqrt, [*np.geomspace(1e-300, 1e300, 50)]),
    "erf": (np.vectorize(math.erf), [*np.linspace(-4, 4, 50)]),
}


@needs_nvrtc
@pytest.mark.parametrize("name", DOUBLES)
def test_a_double_function_is_within_two_units_of_the_last_place(name):
    function, values = DOUBLES[name]
    source = f"""extern "C" __global__ void k(double* y, int n) {{
        int t = threadIdx.x;
        if (t < n) y[t] = {name}(y[t]);
    }}"""
    x = np.array(values)
    y = x.copy()
    report = CudaKernel(source)[1, 64](y, len(y))
    with np.errstate(all="ignore"):
        np.testing.assert_array_max_ulp(y, function(x), 2)  # the CUDA guide's bound for all of these
    assert report.errors == report.races == []


@needs_nvrtc
def test_powers_of_doubles_are_numpys():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0.01, 50, 64), rng.uniform(-20, 20, 64)
    x[:6], y[:6] = [-2, -8, 0, 0, 1, -1], [3, 0.5, 2, -1, np.nan, np.inf]
    out = np.zeros(64)
    source = """extern "C" __global__ void k(double* x, double* y, double* z) {
        int t = threadIdx.x;
        z[t] = pow(x[t], y[t]);
    }"""
    CudaKernel(source)[1, 64](x, y, out)
    with np.errstate(all="ignore"):
        np.testing.assert_array_max_ulp(out, np.power(x, y), 2)


@pytest.mark.parametrize(
    ("assembly", "wanted"),
    [
        ("add.cc.u32 %0, %4, %6; addc.cc.u32 %1, %5, %7; addc.u32 %2, %8, %8;", lambda a, b: a + b),
        ("sub.cc.u32 %0, %4, %6; subc.cc.u32 %1, %5, %7; subc.u32 %2, %8, %8;", lambda a, b: a - b),
        (
            "mul.lo.u32 %0, %4, %6; mul.hi.u32 %1, %4, %6; mul.lo.u32 %2, %5, %7; mul.hi.u32 %3, %5, %7;"
            "mad.lo.cc.u32 %1, %4, %7, %1; madc.hi.cc.u32 %2, %4, %7, %2; addc.u32 %3, %3, %8;"
            "mad.lo.cc.u32 %1, %5, %6, %1; madc.hi.cc.u32 %2, %5, %6, %2; addc.u32 %3, %3, %8;",
            lambda a, b: a * b,
        ),
        ("add.cc.s32 %0, %4, %6; addc.s32 %1, %5, %7; mov.u32 %2, %8;", lambda a, b: (a + b) & (2**64 - 1)),
    ],
)
def test_numbers_of_several_words_carry_as_whole_numbers_do(assembly, wanted):
    source = f"""extern "C" __global__ void k(const unsigned* a, const unsigned* b, unsigned* y) {{
        int t = 2 * threadIdx.x;
        unsigned r0, r1, r2, r3 = 0, zero = 0;
        asm volatile("{assembly}"
            : "=&r"(r0), "=&r"(r1), "=&r"(r2), "+&r"(r3)
            : "r"(a[t]), "r"(a[t + 1]), "r"(b[t]), "r"(b[t + 1]), "r"(zero));
        y[2 * t] = r0; y[2 * t + 1] = r1; y[2 * t + 2] = r2; y[2 * t + 3] = r3;
    }}"""
    a, b = (np.random.default_rng(s).integers(0, 2**64, 64, np.uint64) for s in (0, 1))
    a[:8], b[:8] = (
        [0, 2**64 - 1, 2**32 - 1, 2**32, 1, 2**63, 5, 0],
        [1, 1, 1, 2**64 - 1, 2**64 - 1, 2**63, 5, 0],
    )
    y = np.zeros(256, np.uint32)
    CudaKernel(source)[1, 64](a.view(np.uint32), b.view(np.uint32), y)
    words = 4 if "mul" in assembly else 3
    for i in range(64):
        got = sum(int(v) << 32 * j for j, v in enumerate(y[4 * i : 4 * i + words]))
        assert got == wanted(int(a[i]), int(b[i])) % 2 ** (32 * words), i
