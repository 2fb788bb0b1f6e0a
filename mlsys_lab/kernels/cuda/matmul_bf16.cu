// C = A B on tensor cores: A (m, k) and B (k, n) in bfloat16, C (m, n) and all sums in float32. A warp multiplies
// 16 x 16 x 16 by one instruction; how the numbers of a fragment lie over its lanes is the hardware's business.

#include <cuda_bf16.h>
#include <mma.h>
using namespace nvcuda;

constexpr int TILE = 64, DEPTH = 32, THREADS = 128, WARP = 32, SIDE = 16, EACH = 2;
// 8 numbers more per row put the rows of a fragment into different banks, and keep them on 16 bytes.
constexpr int PAD = 8;

using Element = __nv_bfloat16;
using FragmentA = wmma::fragment<wmma::matrix_a, SIDE, SIDE, SIDE, Element, wmma::row_major>;
using FragmentB = wmma::fragment<wmma::matrix_b, SIDE, SIDE, SIDE, Element, wmma::row_major>;
using Sums = wmma::fragment<wmma::accumulator, SIDE, SIDE, SIDE, float>;

// ROWS x COLUMNS from row `top`, column `left` of a matrix into shared memory, zeros beyond its edges: a fragment
// is loaded whole, so the tile takes care of sizes that are no multiple of 16. Eight numbers are 16 bytes.
template <int ROWS, int COLUMNS>
__device__ void fetch(
    Element (*tile)[COLUMNS + PAD], const Element* x, int rows, int columns, int top, int left) {
    for (int i = 8 * threadIdx.x; i < ROWS * COLUMNS; i += 8 * THREADS) {
        int row = i / COLUMNS, column = i % COLUMNS, from = (top + row) * columns + left + column;
        if (top + row < rows && left + column + 7 < columns && columns % 8 == 0) {
            *reinterpret_cast<uint4*>(&tile[row][column]) = *reinterpret_cast<const uint4*>(x + from);
        } else {
            for (int e = 0; e < 8; ++e) {
                bool inside = top + row < rows && left + column + e < columns;
                tile[row][column + e] = inside ? x[from + e] : __float2bfloat16(0.0f);
            }
        }
    }
}

// Four warps make 64 x 64 results, each 32 x 32 as two by two fragments.
extern "C" __global__ __launch_bounds__(THREADS)
void matmul_wmma(const Element* a, const Element* b, float* c, int m, int n, int k) {
    __shared__ __align__(32) Element as[TILE][DEPTH + PAD], bs[DEPTH][TILE + PAD];
    __shared__ __align__(32) float cs[TILE][TILE + PAD];
    int top = blockIdx.y * TILE, left = blockIdx.x * TILE, warp = threadIdx.x / WARP;
    int row = warp / 2 * SIDE * EACH, column = warp % 2 * SIDE * EACH;
    Sums sum[EACH][EACH];
#pragma unroll
    for (int r = 0; r < EACH; ++r)
#pragma unroll
        for (int s = 0; s < EACH; ++s) wmma::fill_fragment(sum[r][s], 0.0f);
    for (int start = 0; start < k; start += DEPTH) {
        fetch<TILE, DEPTH>(as, a, m, k, top, start);
        fetch<DEPTH, TILE>(bs, b, k, n, start, left);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < DEPTH; i += SIDE) {
            FragmentA x[EACH];
            FragmentB y[EACH];
#pragma unroll
            for (int e = 0; e < EACH; ++e) {
                wmma::load_matrix_sync(x[e], &as[row + e * SIDE][i], DEPTH + PAD);
                wmma::load_matrix_sync(y[e], &bs[i][column + e * SIDE], TILE + PAD);
            }
#pragma unroll
            for (int r = 0; r < EACH; ++r)
#pragma unroll
                for (int s = 0; s < EACH; ++s) wmma::mma_sync(sum[r][s], x[r], y[s], sum[r][s]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < EACH; ++r)
#pragma unroll
        for (int s = 0; s < EACH; ++s)
            wmma::store_matrix_sync(
                &cs[row + r * SIDE][column + s * SIDE], sum[r][s], TILE + PAD, wmma::mem_row_major);
    __syncthreads();
    for (int i = threadIdx.x; i < TILE * TILE; i += THREADS) {
        int r = top + i / TILE, s = left + i % TILE;
        if (r < m && s < n) c[r * n + s] = cs[i / TILE][i % TILE];
    }
}
