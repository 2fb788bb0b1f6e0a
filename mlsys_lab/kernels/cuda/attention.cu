// Attention of one head after another: q, k, v, o are (heads, n, HEAD), lse is (heads, n), HEAD at most 64.
// The naive rung writes the (heads, n, n) matrix of scores to memory; the flash rungs never have more than a tile
// of it (Dao et al. 2022, "FlashAttention"), and the backward pass computes it again from `lse`.

constexpr int WARP = 32, TILE = 32, ROWS = 8, WARPS = TILE / ROWS, THREADS = WARP * WARPS;
constexpr int HEAD = 64, PER = HEAD / WARP;  // a lane holds PER dimensions: lane, lane + 32
constexpr unsigned ALL = 0xffffffffu;

__device__ float minus_infinity() { return __int_as_float(0xff800000); }

__device__ float warp_max(float value) {
    for (int half = WARP / 2; half > 0; half /= 2) value = fmaxf(value, __shfl_xor_sync(ALL, value, half));
    return value;
}

__device__ float warp_sum(float value) {
    for (int half = WARP / 2; half > 0; half /= 2) value += __shfl_xor_sync(ALL, value, half);
    return value;
}

// scores[h, i, j] = q[h, i] . k[h, j] * scale, minus infinity where a causal query may not look.
extern "C" __global__ void attention_scores(
    const float* q, const float* k, float* scores, int n, int head, float scale, int causal) {
    int j = blockIdx.x * blockDim.x + threadIdx.x, i = blockIdx.y, h = blockIdx.z;
    if (j >= n) return;
    float sum = 0.0f;
    for (int d = 0; d < head; ++d) sum += q[(h * n + i) * head + d] * k[(h * n + j) * head + d];
    scores[(h * n + i) * n + j] = causal && j > i ? minus_infinity() : sum * scale;
}

// o[h, i] = the mean of v[h], weighted by the row of probabilities.
extern "C" __global__ void attention_values(const float* p, const float* v, float* o, int n, int head) {
    int d = threadIdx.x, i = blockIdx.y, h = blockIdx.z;
    if (d >= head) return;
    float sum = 0.0f;
    for (int j = 0; j < n; ++j) sum += p[(h * n + i) * n + j] * v[(h * n + j) * head + d];
    o[(h * n + i) * head + d] = sum;
}

// TILE rows of x from row `first` into shared memory; zeros beyond n rows and `head` columns. Where lanes walk
// down a column of the tile, one word more per row puts them into different banks.
template <int WIDTH>
__device__ void fetch(float (*tile)[WIDTH], const float* x, int first, int n, int head) {
    for (int i = threadIdx.x; i < TILE * HEAD; i += THREADS) {
        int row = i / HEAD, d = i % HEAD;
        tile[row][d] = first + row < n && d < head ? x[(first + row) * head + d] : 0.0f;
    }
}

// For ROWS rows of `mine`, the dot products with the lane's own row of `theirs`.
template <int MINE, int THEIRS>
__device__ void products(float (&sum)[ROWS], const float (*mine)[MINE], const float (*theirs)[THEIRS], int lane) {
#pragma unroll
    for (int r = 0; r < ROWS; ++r) sum[r] = 0.0f;
#pragma unroll 4
    for (int d = 0; d < HEAD; ++d) {
        float other = theirs[lane][d];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) sum[r] += mine[r][d] * other;
    }
}

// total[r][dimension] += the sum over lanes j of weight[r] of lane j times rows[j][dimension]: until here a lane
// stood for a row of the tile, now it stands for dimensions.
template <int WIDTH>
__device__ void gather(float (&total)[ROWS][PER], const float (&weight)[ROWS], const float (*rows)[WIDTH], int lane) {
    for (int j = 0; j < TILE; ++j) {
        float value[PER];
#pragma unroll
        for (int i = 0; i < PER; ++i) value[i] = rows[j][lane + i * WARP];
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            float w = __shfl_sync(ALL, weight[r], j);
#pragma unroll
            for (int i = 0; i < PER; ++i) total[r][i] += w * value[i];
        }
    }
}

__device__ void write(const float (&value)[ROWS][PER], float* x, int first, int n, int head, int lane) {
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
        for (int i = 0; i < PER; ++i)
            if (first + r < n && lane + i * WARP < head) x[(first + r) * head + lane + i * WARP] = value[r][i];
}

// A block takes 32 queries of a head, a warp 8 of them; keys and values come by in tiles of 32. Each query keeps
// the largest score so far, the sum of the exponentials and its output, and rescales both when the maximum grows.
extern "C" __global__ __launch_bounds__(THREADS)
void attention_flash(
    const float* q, const float* k, const float* v, float* o, float* lse, int n, int head, float scale, int causal) {
    __shared__ float qs[TILE][HEAD], ks[TILE][HEAD + 1], vs[TILE][HEAD];
    int lane = threadIdx.x % WARP, mine = threadIdx.x / WARP * ROWS, first = blockIdx.x * TILE;
    long long from = (long long)blockIdx.y * n * head;
    q += from, k += from, v += from, o += from, lse += (long long)blockIdx.y * n;
    fetch(qs, q, first, n, head);
    float top[ROWS], sum[ROWS], out[ROWS][PER] = {};
#pragma unroll
    for (int r = 0; r < ROWS; ++r) top[r] = minus_infinity(), sum[r] = 0.0f;
    int end = causal ? min(n, first + TILE) : n;  // tiles above the diagonal are not even read
    for (int start = 0; start < end; start += TILE) {
        __syncthreads();
        fetch(ks, k, start, n, head);
        fetch(vs, v, start, n, head);
        __syncthreads();
        float p[ROWS];
        products(p, qs + mine, ks, lane);
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            int key = start + lane;
            bool seen = key < n && !(causal && key > first + mine + r);
            float score = seen ? p[r] * scale : minus_infinity();
            float larger = fmaxf(top[r], warp_max(score));  // finite: each tile has a key that is seen
            float shrink = expf(top[r] - larger);
            p[r] = expf(score - larger);
            sum[r] = sum[r] * shrink + warp_sum(p[r]);
            top[r] = larger;
#pragma unroll
            for (int i = 0; i < PER; ++i) out[r][i] *= shrink;
        }
        gather(out, p, vs, lane);
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
#pragma unroll
        for (int i = 0; i < PER; ++i) out[r][i] /= sum[r];
        if (lane == r && first + mine + r < n) lse[first + mine + r] = top[r] + logf(sum[r]);
    }
    write(out, o, first + mine, n, head, lane);
}

// delta[h, i] = do[h, i] . o[h, i], which is the sum over j of p[i, j] dp[i, j]: one warp per query.
extern "C" __global__ void attention_delta(const float* o, const float* grad, float* delta, int rows, int head) {
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    float sum = 0.0f;
    for (int d = lane; d < head; d += WARP) sum += o[row * head + d] * grad[row * head + d];
    sum = warp_sum(sum);
    if (lane == 0) delta[row] = sum;
}

// The gradient of q, by the same walk as forward: ds = p (dp - delta), dq = scale * ds k.
extern "C" __global__ __launch_bounds__(THREADS)
void attention_backward_q(
    const float* q, const float* k, const float* v, const float* grad, const float* lse, const float* delta, float* dq,
    int n, int head, float scale, int causal) {
    __shared__ float qs[TILE][HEAD], gs[TILE][HEAD], ks[TILE][HEAD + 1];
    __shared__ float vs[TILE][HEAD + 1];
    int lane = threadIdx.x % WARP, mine = threadIdx.x / WARP * ROWS, first = blockIdx.x * TILE;
    long long from = (long long)blockIdx.y * n * head;
    q += from, k += from, v += from, grad += from, dq += from;
    lse += (long long)blockIdx.y * n, delta += (long long)blockIdx.y * n;
    fetch(qs, q, first, n, head);
    fetch(gs, grad, first, n, head);
    float out[ROWS][PER] = {};
    int end = causal ? min(n, first + TILE) : n;
    for (int start = 0; start < end; start += TILE) {
        __syncthreads();
        fetch(ks, k, start, n, head);
        fetch(vs, v, start, n, head);
        __syncthreads();
        float p[ROWS], dp[ROWS];
        products(p, qs + mine, ks, lane);
        products(dp, gs + mine, vs, lane);
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            int query = first + mine + r, key = start + lane;
            bool seen = query < n && key < n && !(causal && key > query);
            p[r] = seen ? expf(p[r] * scale - lse[query]) * (dp[r] - delta[query]) * scale : 0.0f;
        }
        gather(out, p, ks, lane);
    }
    write(out, dq, first + mine, n, head, lane);
}

// The gradients of k and v: a block takes 32 keys, and the queries come by. dv = p^T do, dk = scale * ds^T q.
// Both kernels compute the scores anew; in exchange nobody adds to what another block writes.
extern "C" __global__ __launch_bounds__(THREADS)
void attention_backward_kv(
    const float* q, const float* k, const float* v, const float* grad, const float* lse, const float* delta, float* dk,
    float* dv, int n, int head, float scale, int causal) {
    __shared__ float ks[TILE][HEAD], vs[TILE][HEAD], qs[TILE][HEAD + 1];
    __shared__ float gs[TILE][HEAD + 1];
    int lane = threadIdx.x % WARP, mine = threadIdx.x / WARP * ROWS, first = blockIdx.x * TILE;
    long long from = (long long)blockIdx.y * n * head;
    q += from, k += from, v += from, grad += from, dk += from, dv += from;
    lse += (long long)blockIdx.y * n, delta += (long long)blockIdx.y * n;
    fetch(ks, k, first, n, head);
    fetch(vs, v, first, n, head);
    float to_k[ROWS][PER] = {}, to_v[ROWS][PER] = {};
    for (int start = causal ? first : 0; start < n; start += TILE) {
        __syncthreads();
        fetch(qs, q, start, n, head);
        fetch(gs, grad, start, n, head);
        __syncthreads();
        int query = start + lane;
        float peak = query < n ? lse[query] : 0.0f, mean = query < n ? delta[query] : 0.0f;
        float p[ROWS], dp[ROWS];
        products(p, ks + mine, qs, lane);
        products(dp, vs + mine, gs, lane);
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            int key = first + mine + r;
            bool seen = query < n && key < n && !(causal && key > query);
            p[r] = seen ? expf(p[r] * scale - peak) : 0.0f;
            dp[r] = p[r] * (dp[r] - mean) * scale;
        }
        gather(to_v, p, gs, lane);
        gather(to_k, dp, qs, lane);
    }
    write(to_k, dk, first + mine, n, head, lane);
    write(to_v, dv, first + mine, n, head, lane);
}
