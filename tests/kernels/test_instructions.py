"""Single instructions, written as inline assembly: what they compute, and which are refused."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mlsys_lab.kernels")
from mlsys_lab.kernels import CudaKernel, NotSimulated


def computed(assembly: str, *operands: np.ndarray) -> np.ndarray:
    """One instruction on arrays of 32-bit values: `%0` is the result, `%1` and on the operands."""
    words = "".join(f', "r"(x[{64 * i} + threadIdx.x])' for i in range(len(operands)))
    source = f"""extern "C" __global__ void k(const unsigned* x, unsigned* y) {{
        unsigned r;
        asm volatile("{assembly}" : "=r"(r) : {words[2:]});
        y[threadIdx.x] = r;
    }}"""
    x = np.concatenate([np.ascontiguousarray(o).view(np.uint32) for o in operands])
    y = np.zeros(64, np.uint32)
    CudaKernel(source)[1, 64](x, y)
    return y


def test_a_fused_multiply_add_of_pairs_rounds_once_and_relu_cuts_what_is_negative():
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(128).astype(np.float16) for _ in range(3))
    exact = (a.astype(np.float64) * b + c).astype(np.float16)
    plain = computed("fma.rn.f16x2 %0, %1, %2, %3;", a, b, c).view(np.float16)
    np.testing.assert_array_equal(plain, exact)
    cut = computed("fma.rn.relu.f16x2 %0, %1, %2, %3;", a, b, c).view(np.float16)
    np.testing.assert_array_equal(cut, np.maximum(exact, 0))


@pytest.mark.parametrize(
    ("assembly", "result"),
    [
        ("add.rz.f32 %0, %1, %2;", lambda s: np.nextafter(s.astype(np.float32), np.float32(0))),
        ("add.rp.f32 %0, %1, %2;", lambda s: np.nextafter(s.astype(np.float32), np.float32(np.inf))),
        ("add.rm.f32 %0, %1, %2;", lambda s: np.nextafter(s.astype(np.float32), np.float32(-np.inf))),
        ("add.sat.f32 %0, %1, %2;", lambda s: np.clip(s, 0, 1).astype(np.float32)),
    ],
)
def test_directed_rounding_gives_the_nearest_float_on_that_side_and_sat_cuts(assembly, result):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal(64).astype(np.float32), rng.standard_normal(64).astype(np.float32)
    exact = a.astype(np.float64) + b
    near = exact.astype(np.float32)
    moved, got = result(exact), computed(assembly, a, b).view(np.float32)
    if "sat" in assembly:
        np.testing.assert_array_equal(got, moved)
        return
    beyond = {"rz": np.abs(near) > np.abs(exact), "rp": near < exact, "rm": near > exact}
    np.testing.assert_array_equal(got, np.where(beyond[assembly[4:6]], moved, near))


@pytest.mark.parametrize("kind", ["s32", "u32"])
def test_division_goes_toward_zero_and_by_zero_sets_all_bits(kind):
    dtype = np.int32 if kind == "s32" else np.uint32
    rng = np.random.default_rng(2)
    a, b = (rng.integers(-(2**31), 2**31, 64).astype(dtype) for _ in range(2))
    b[:32], b[-4:] = rng.integers(1, 9, 32) * rng.choice([1, -1] if kind == "s32" else [1], 32), 0
    some, nonzero = b != 0, np.where(b == 0, 1, b).astype(object)
    quotient = [
        abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        for x, y in zip(map(int, a), nonzero, strict=True)
    ]
    got = computed(f"div.{kind} %0, %1, %2;", a, b).view(dtype)
    np.testing.assert_array_equal(got[some], np.array(quotient, object)[some].astype(dtype))
    assert (got[~some].view(np.uint32) == 0xFFFFFFFF).all()
    rest = computed(f"rem.{kind} %0, %1, %2;", a, b).view(dtype)
    np.testing.assert_array_equal(rest[some], (a - got * b)[some])
    np.testing.assert_array_equal(rest[~some], a[~some])


@pytest.mark.parametrize(
    "assembly",
    [
        "atom.global.add.noftz.f16x2 %0, [%1], %0;",
        "bfe.u64 %1, %1, 3, 4;",
    ],
)
def test_what_would_compute_something_else_is_refused_by_name(assembly):
    source = f"""extern "C" __global__ void k(unsigned* y) {{
        unsigned r = 1;
        unsigned long long p = (unsigned long long)y;
        asm volatile("{assembly}" : "+r"(r), "+l"(p));
        y[0] = r + p;
    }}"""
    with pytest.raises(
        NotSimulated, match=rf"line 4: the instruction {assembly.split()[0]} is not simulated"
    ):
        CudaKernel(source)
