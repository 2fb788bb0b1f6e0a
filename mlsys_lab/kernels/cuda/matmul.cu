// C = A B in float32, row by row: A is (m, k), B is (k, n), C is (m, n). The order of Boehm 2022, "How to Optimize a
// CUDA Matmul Kernel": first the accesses of a warp, then reuse in shared memory, then in registers.

constexpr int WARP = 32;

// Neighbouring lanes take neighbouring rows: each load of A asks for 32 sectors, each store of C too.
extern "C" __global__ void matmul_naive(const float* a, const float* b, float* c, int m, int n, int k) {
    int row = blockIdx.x * blockDim.x + threadIdx.x, column = blockIdx.y * blockDim.y + threadIdx.y;
    if (row >= m || column >= n) return;
    float sum = 0.0f;
    for (int i = 0; i < k; ++i) sum += a[row * k + i] * b[i * n + column];
    c[row * n + column] = sum;
}

// x and y change places: lanes of a warp share one element of A and take 32 neighbours of B.
extern "C" __global__ void matmul_coalesced(const float* a, const float* b, float* c, int m, int n, int k) {
    int row = blockIdx.y * blockDim.y + threadIdx.y, column = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= m || column >= n) return;
    float sum = 0.0f;
    for (int i = 0; i < k; ++i) sum += a[row * k + i] * b[i * n + column];
    c[row * n + column] = sum;
}

// A block brings a tile of A and one of B into shared memory; each number from global memory serves 32 threads.
extern "C" __global__ void matmul_shared(const float* a, const float* b, float* c, int m, int n, int k) {
    constexpr int TILE = 32;
    __shared__ float as[TILE][TILE], bs[TILE][TILE];
    int x = threadIdx.x, y = threadIdx.y, row = blockIdx.y * TILE + y, column = blockIdx.x * TILE + x;
    float sum = 0.0f;
    for (int start = 0; start < k; start += TILE) {
        as[y][x] = row < m && start + x < k ? a[row * k + start + x] : 0.0f;
        bs[y][x] = start + y < k && column < n ? b[(start + y) * n + column] : 0.0f;
        __syncthreads();
        for (int i = 0; i < TILE; ++i) sum += as[y][i] * bs[i][x];
        __syncthreads();  // nobody brings the next tile while others read this one
    }
    if (row < m && column < n) c[row * n + column] = sum;
}

// Fetch a tile of `ROWS` x `COLUMNS` from row `top`, column `left` of a matrix; zeros beyond its edges.
template <int ROWS, int COLUMNS, int THREADS>
__device__ void fetch(float (*tile)[COLUMNS], const float* x, int rows, int columns, int top, int left) {
    for (int i = threadIdx.x; i < ROWS * COLUMNS; i += THREADS) {
        int row = i / COLUMNS, column = i % COLUMNS;
        bool inside = top + row < rows && left + column < columns;
        tile[row][column] = inside ? x[(top + row) * columns + left + column] : 0.0f;
    }
}

// Eight results of one column per thread: an element of B from shared memory stays in a register for all eight.
extern "C" __global__ void matmul_1d_tile(const float* a, const float* b, float* c, int m, int n, int k) {
    constexpr int TILE = 64, DEPTH = 8, EACH = 8, THREADS = TILE * TILE / EACH;
    __shared__ float as[TILE][DEPTH], bs[DEPTH][TILE];
    int top = blockIdx.y * TILE, left = blockIdx.x * TILE;
    int column = threadIdx.x % TILE, row = threadIdx.x / TILE * EACH;
    float sum[EACH] = {};
    for (int start = 0; start < k; start += DEPTH) {
        fetch<TILE, DEPTH, THREADS>(as, a, m, k, top, start);
        fetch<DEPTH, TILE, THREADS>(bs, b, k, n, start, left);
        __syncthreads();
        for (int i = 0; i < DEPTH; ++i) {
            float value = bs[i][column];
#pragma unroll
            for (int r = 0; r < EACH; ++r) sum[r] += as[row + r][i] * value;
        }
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < EACH; ++r)
        if (top + row + r < m && left + column < n) c[(top + row + r) * n + left + column] = sum[r];
}

// What the rungs from here on share: a block of 256 threads makes 128 x 128 results, 8 x 8 per thread.
constexpr int BLOCK = 128, DEEP = 8, EDGE = 8, TEAM = 256;

// Eight by eight per thread: 16 loads from shared memory serve 64 multiply-adds.
extern "C" __global__ __launch_bounds__(TEAM)
void matmul_2d_tile(const float* a, const float* b, float* c, int m, int n, int k) {
    __shared__ float as[BLOCK][DEEP], bs[DEEP][BLOCK];
    int top = blockIdx.y * BLOCK, left = blockIdx.x * BLOCK;
    int row = threadIdx.x / (BLOCK / EDGE) * EDGE, column = threadIdx.x % (BLOCK / EDGE) * EDGE;
    float sum[EDGE][EDGE] = {};
    for (int start = 0; start < k; start += DEEP) {
        fetch<BLOCK, DEEP, TEAM>(as, a, m, k, top, start);
        fetch<DEEP, BLOCK, TEAM>(bs, b, k, n, start, left);
        __syncthreads();
        for (int i = 0; i < DEEP; ++i) {
            float x[EDGE], y[EDGE];
#pragma unroll
            for (int e = 0; e < EDGE; ++e) x[e] = as[row + e][i];
#pragma unroll
            for (int e = 0; e < EDGE; ++e) y[e] = bs[i][column + e];
#pragma unroll
            for (int r = 0; r < EDGE; ++r)
#pragma unroll
                for (int s = 0; s < EDGE; ++s) sum[r][s] += x[r] * y[s];
        }
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < EDGE; ++r)
#pragma unroll
        for (int s = 0; s < EDGE; ++s)
            if (top + row + r < m && left + column + s < n)
                c[(top + row + r) * n + left + column + s] = sum[r][s];
}

// Four neighbours at once where they lie in the matrix and on a 16-byte boundary, one by one at the edges.
__device__ float4 four(const float* x, int rows, int columns, int row, int column) {
    if (row < rows && column + 3 < columns && columns % 4 == 0)
        return *reinterpret_cast<const float4*>(x + row * columns + column);
    float value[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
        value[i] = row < rows && column + i < columns ? x[row * columns + column + i] : 0.0f;
    return make_float4(value[0], value[1], value[2], value[3]);
}

__device__ void put_four(float* x, int rows, int columns, int row, int column, const float* value) {
    if (row < rows && column + 3 < columns && columns % 4 == 0) {
        *reinterpret_cast<float4*>(x + row * columns + column) =
            make_float4(value[0], value[1], value[2], value[3]);
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (row < rows && column + i < columns) x[row * columns + column + i] = value[i];
}

// Bring both tiles with one float4 per thread each. The tile of A turns on its way, so that a column of it,
// which a thread needs at a time, lies together. PAD moves its rows apart in the banks.
template <int PAD>
__device__ void fetch_turned(
    float (*as)[BLOCK + PAD], float (*bs)[BLOCK], const float* a, const float* b, int m, int n, int k, int top, int left,
    int start) {
    int row = threadIdx.x / (DEEP / 4), column = threadIdx.x % (DEEP / 4) * 4;
    float4 part = four(a, m, k, top + row, start + column);
    as[column][row] = part.x;
    as[column + 1][row] = part.y;
    as[column + 2][row] = part.z;
    as[column + 3][row] = part.w;
    row = threadIdx.x / (BLOCK / 4), column = threadIdx.x % (BLOCK / 4) * 4;
    *reinterpret_cast<float4*>(&bs[row][column]) = four(b, k, n, start + row, left + column);
}

__device__ void four_from(const float* place, float* to) {
    float4 value = *reinterpret_cast<const float4*>(place);
    to[0] = value.x, to[1] = value.y, to[2] = value.z, to[3] = value.w;
}

// The same tiles by 128-bit accesses: a quarter of the requests to global and to shared memory.
extern "C" __global__ __launch_bounds__(TEAM)
void matmul_vectorised(const float* a, const float* b, float* c, int m, int n, int k) {
    __shared__ __align__(16) float as[DEEP][BLOCK], bs[DEEP][BLOCK];
    int top = blockIdx.y * BLOCK, left = blockIdx.x * BLOCK;
    int row = threadIdx.x / (BLOCK / EDGE) * EDGE, column = threadIdx.x % (BLOCK / EDGE) * EDGE;
    float sum[EDGE][EDGE] = {};
    for (int start = 0; start < k; start += DEEP) {
        fetch_turned<0>(as, bs, a, b, m, n, k, top, left, start);
        __syncthreads();
        for (int i = 0; i < DEEP; ++i) {
            float x[EDGE], y[EDGE];
            four_from(&as[i][row], x);
            four_from(&as[i][row + 4], x + 4);
            four_from(&bs[i][column], y);
            four_from(&bs[i][column + 4], y + 4);
#pragma unroll
            for (int r = 0; r < EDGE; ++r)
#pragma unroll
                for (int s = 0; s < EDGE; ++s) sum[r][s] += x[r] * y[s];
        }
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < EDGE; ++r)
#pragma unroll
        for (int s = 0; s < EDGE; s += 4) put_four(c, m, n, top + row + r, left + column + s, &sum[r][s]);
}

// A warp makes 64 x 32 results, as 8 x 4 lanes. A lane's 8 x 8 lie in four pieces of 4 x 4, half a warp tile apart,
// so that neighbouring lanes read neighbouring float4s: no two lanes of a quarter warp meet in a bank.
extern "C" __global__ __launch_bounds__(TEAM)
void matmul_warp_tile(const float* a, const float* b, float* c, int m, int n, int k) {
    constexpr int PAD = 4, HIGH = 64, WIDE = 32;
    __shared__ __align__(16) float as[DEEP][BLOCK + PAD], bs[DEEP][BLOCK];
    int top = blockIdx.y * BLOCK, left = blockIdx.x * BLOCK;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int row = warp / (BLOCK / WIDE) * HIGH + lane / 4 * 4, column = warp % (BLOCK / WIDE) * WIDE + lane % 4 * 4;
    float sum[EDGE][EDGE] = {};
    for (int start = 0; start < k; start += DEEP) {
        fetch_turned<PAD>(as, bs, a, b, m, n, k, top, left, start);
        __syncthreads();
        for (int i = 0; i < DEEP; ++i) {
            float x[EDGE], y[EDGE];
            four_from(&as[i][row], x);
            four_from(&as[i][row + HIGH / 2], x + 4);
            four_from(&bs[i][column], y);
            four_from(&bs[i][column + WIDE / 2], y + 4);
#pragma unroll
            for (int r = 0; r < EDGE; ++r)
#pragma unroll
                for (int s = 0; s < EDGE; ++s) sum[r][s] += x[r] * y[s];
        }
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < EDGE; ++r)
#pragma unroll
        for (int s = 0; s < EDGE; s += 4) {
            int to_row = top + row + r % 4 + r / 4 * (HIGH / 2), to_column = left + column + s / 4 * (WIDE / 2);
            put_four(c, m, n, to_row, to_column, &sum[r][s]);
        }
}
