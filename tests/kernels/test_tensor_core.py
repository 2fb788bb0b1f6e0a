"""Matrix instructions of a warp against NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from mlsys_lab.kernels import CudaKernel
from tests.kernels.conftest import needs_nvrtc

rng = np.random.default_rng(0)


@needs_nvrtc
@pytest.mark.parametrize(
    ("a_layout", "b_layout"), [("row", "row"), ("row", "col"), ("col", "row"), ("col", "col")]
)
def test_wmma_multiplies_whatever_way_its_operands_lie(a_layout, b_layout):
    source = f"""
    #include <mma.h>
    #include <cuda_bf16.h>
    using namespace nvcuda;
    extern "C" __global__ void k(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c) {{
        wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, wmma::{a_layout}_major> x;
        wmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, wmma::{b_layout}_major> y;
        wmma::fragment<wmma::accumulator, 16, 16, 16, float> z;
        wmma::fill_fragment(z, 1.0f);
        wmma::load_matrix_sync(x, a, 24);
        wmma::load_matrix_sync(y, b, 16);
        wmma::mma_sync(z, x, y, z);
        for (int i = 0; i < z.num_elements; i++) z.x[i] *= 2;
        wmma::store_matrix_sync(c, z, 16, wmma::mem_row_major);
    }}"""
    a = rng.standard_normal((16, 24)).astype(ml_dtypes.bfloat16)
    b = rng.standard_normal((16, 16)).astype(ml_dtypes.bfloat16)
    c = np.zeros((16, 16), np.float32)
    report = CudaKernel(source)[1, 32](a, b, c)
    x = a[:, :16].astype(np.float64)
    y = b.astype(np.float64)
    want = 2 * ((x if a_layout == "row" else x.T) @ (y if b_layout == "row" else y.T) + 1)
    np.testing.assert_allclose(c, want, rtol=1e-5, atol=1e-5)
    assert report.errors == report.races == []
    assert report.flops == 2 * 16**3 + 256  # and the doubling of each result
    assert report.classes["tensor core"] == 4


@pytest.mark.parametrize("kind", ["bf16", "f16"])
def test_mma_with_ldmatrix_and_asynchronous_copies(kind):
    source = """
    extern "C" __global__ void k(const unsigned short* a, const unsigned short* b, float* c) {
        __shared__ __align__(16) unsigned short s[16 * 16], r[16 * 8];
        int t = threadIdx.x;
        unsigned to = __cvta_generic_to_shared(s + 8 * t);
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(a + 8 * t));
        if (t < 16) {
            unsigned other = __cvta_generic_to_shared(r + 8 * t);
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(other), "l"(b + 8 * t));
        }
        asm volatile("cp.async.commit_group; cp.async.wait_group 0;");
        __syncthreads();
        unsigned x[4], y[2];
        unsigned from = __cvta_generic_to_shared(s + (t % 16) * 16 + t / 16 * 8);
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
            : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(from));
        unsigned half = __cvta_generic_to_shared(r + (t % 16) * 8);
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
            : "=r"(y[0]), "=r"(y[1]) : "r"(half));
        float z[4] = {0.5f, 0.5f, 0.5f, 0.5f};
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.KIND.KIND.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7},"
            " {%8,%9}, {%0,%1,%2,%3};" : "+f"(z[0]), "+f"(z[1]), "+f"(z[2]), "+f"(z[3])
            : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
        int row = t / 4, column = t % 4 * 2;
        c[row * 8 + column] = z[0];
        c[row * 8 + column + 1] = z[1];
        c[(row + 8) * 8 + column] = z[2];
        c[(row + 8) * 8 + column + 1] = z[3];
    }""".replace("KIND", kind)
    dtype = np.float16 if kind == "f16" else ml_dtypes.bfloat16
    a, b = rng.standard_normal((16, 16)).astype(dtype), rng.standard_normal((16, 8)).astype(dtype)
    c = np.zeros((16, 8), np.float32)
    report = CudaKernel(source)[1, 32](a.view(np.uint16), b.view(np.uint16), c)
    np.testing.assert_allclose(c, a.astype(np.float64) @ b.astype(np.float64) + 0.5, rtol=1e-5, atol=1e-5)
    assert report.errors == report.races == []


@needs_nvrtc
@pytest.mark.parametrize(("a_layout", "b_layout"), [("row", "row"), ("col", "col")])
def test_wmma_sums_in_half_precision(a_layout, b_layout):
    source = f"""
    #include <mma.h>
    using namespace nvcuda;
    extern "C" __global__ void k(const __half* a, const __half* b, const __half* c, __half* d, float* e) {{
        wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::{a_layout}_major> x;
        wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::{b_layout}_major> y;
        wmma::fragment<wmma::accumulator, 16, 16, 16, __half> z;
        wmma::fragment<wmma::accumulator, 16, 16, 16, float> w;
        wmma::load_matrix_sync(x, a, 16);
        wmma::load_matrix_sync(y, b, 16);
        wmma::load_matrix_sync(z, c, 24, wmma::mem_row_major);
        wmma::mma_sync(z, x, y, z);
        for (int i = 0; i < w.num_elements; i++) w.x[i] = 2 * __half2float(z.x[i]);
        wmma::store_matrix_sync(d, z, 16, wmma::mem_row_major);
        wmma::store_matrix_sync(e, w, 16, wmma::mem_row_major);
    }}"""
    a, b = (rng.integers(-4, 5, (16, 16)).astype(np.float16) for _ in range(2))
    c = rng.integers(-9, 10, (16, 24)).astype(np.float16)
    d, e = np.zeros((16, 16), np.float16), np.zeros((16, 16), np.float32)
    report = CudaKernel(source)[1, 32](a, b, c, d, e)
    x, y = a if a_layout == "row" else a.T, b if b_layout == "row" else b.T
    want = x.astype(int) @ y.astype(int) + c[:, :16].astype(int)  # below 2048: exact in half precision
    np.testing.assert_array_equal(d, want)
    np.testing.assert_array_equal(e, 2 * want)
    assert report.errors == report.races == []


@needs_nvrtc
@pytest.mark.parametrize(
    ("kind", "stride", "sectors", "requests"),
    [
        ("float", 16, 32, 2),  # 16 rows of 64 bytes
        ("float", 64, 32, 2),
        ("float", 20, 40, 2),  # rows of 80 bytes: each other one begins in the middle of a sector and has 3
        ("__half", 16, 16, 2),  # 16 rows of 32 bytes
        ("__half", 40, 8 + 16, 2),  # rows 80 bytes apart: each other one lies in two sectors
    ],
)
def test_a_tile_that_wmma_stores_or_loads_fills_its_sectors(kind, stride, sectors, requests):
    source = f"""
    #include <mma.h>
    using namespace nvcuda;
    extern "C" __global__ void k(const {kind}* c, {kind}* d) {{
        wmma::fragment<wmma::accumulator, 16, 16, 16, {kind}> z;
        wmma::load_matrix_sync(z, c, {stride}, wmma::mem_row_major);
        wmma::store_matrix_sync(d, z, {stride}, wmma::mem_row_major);
    }}"""
    dtype = np.float32 if kind == "float" else np.float16
    c = rng.integers(0, 99, 16 * stride).astype(dtype)
    d = np.zeros_like(c)
    report = CudaKernel(source)[1, 32](c, d)
    for traffic in (report.global_loads, report.global_stores):
        assert (traffic.requests, traffic.sectors) == (requests, sectors)
        assert traffic.bytes == 256 * dtype().itemsize
    tile = np.s_[:, :16]
    np.testing.assert_array_equal(d.reshape(16, stride)[tile], c.reshape(16, stride)[tile])


@needs_nvrtc
@pytest.mark.parametrize(("layout", "sectors"), [("row", 16), ("col", 16)])
def test_a_16_bit_operand_of_wmma_is_one_request_of_16_sectors(layout, sectors):
    source = f"""
    #include <mma.h>
    using namespace nvcuda;
    extern "C" __global__ void k(const __half* a, float* d) {{
        wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::{layout}_major> x;
        wmma::load_matrix_sync(x, a, 32);
        d[threadIdx.x] = __half2float(x.x[0]);
    }}"""
    report = CudaKernel(source)[1, 32](np.zeros((16, 32), np.float16), np.zeros(32, np.float32))
    assert (report.global_loads.requests, report.global_loads.sectors) == (1, sectors)


@pytest.mark.parametrize(("size", "cache"), [(4, "ca"), (8, "ca"), (16, "ca"), (16, "cg")])
def test_asynchronous_copies_of_each_size_move_their_bytes_and_are_counted(size, cache):
    words = size // 4
    source = f"""extern "C" __global__ void k(const int* x, int* y) {{
        __shared__ __align__(16) int s[32 * {words}];
        int t = threadIdx.x;
        unsigned to;
        asm("{{ .reg .u64 p; cvta.to.shared.u64 p, %1; cvt.u32.u64 %0, p; }}"
            : "=r"(to) : "l"(s + {words} * (31 - t)));
        asm volatile("cp.async.{cache}.shared.global [%0], [%1], {size};"
            :: "r"(to), "l"(x + {words} * t) : "memory");
        asm volatile("cp.async.commit_group; cp.async.wait_group 0;" ::: "memory");
        __syncthreads();
        for (int i = 0; i < {words}; i++) y[{words} * t + i] = s[{words} * t + i];
    }}"""
    x, y = np.arange(32 * words, dtype=np.int32), np.zeros(32 * words, np.int32)
    report = CudaKernel(source)[1, 32](x, y)
    np.testing.assert_array_equal(y, x.reshape(32, words)[::-1].ravel())
    assert report.errors == report.races == []
    assert (report.global_loads.requests, report.global_loads.sectors) == (1, size)  # 32 x size bytes
    assert report.lines[7].shared.wavefronts == words  # none in conflict
