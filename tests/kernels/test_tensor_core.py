"""Matrix instructions of a warp against NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from mlsys_lab.kernels import CudaKernel

rng = np.random.default_rng(0)


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
