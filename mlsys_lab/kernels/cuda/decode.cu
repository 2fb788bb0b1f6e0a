// Attention of one new token per sequence over keys and values that lie in pages (Kwon et al. 2023, "vLLM"):
// q, o are (batch, heads, head); keys, values (pages, kv_heads, page, head); table (batch, most) names the pages of
// a sequence in order, lengths (batch) its tokens. Each K/V head serves heads / kv_heads query heads.
// Bound by memory: the ladder counts how often a key is read.

constexpr int WARP = 32, WARPS = 4, THREADS = WARP * WARPS;
constexpr int HEAD = 128, PER = HEAD / WARP, GROUP = 8;  // the largest head, and query heads per K/V head
constexpr unsigned ALL = 0xffffffffu;

__device__ float minus_infinity() { return __int_as_float(0xff800000); }

// What a warp keeps of the tokens that it has seen: largest score, sum of exponentials, output so far.
struct Seen {
    float top, sum, out[PER];
};

__device__ float dot(const float (&q)[PER], const float (&key)[PER]) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < PER; ++i) sum += q[i] * key[i];
    for (int half = WARP / 2; half > 0; half /= 2) sum += __shfl_xor_sync(ALL, sum, half);
    return sum;
}

__device__ void load(float (&to)[PER], const float* row, int head, int lane) {
#pragma unroll
    for (int i = 0; i < PER; ++i) to[i] = lane + i * WARP < head ? row[lane + i * WARP] : 0.0f;
}

__device__ void see(Seen& seen, float score, const float (&value)[PER]) {
    float larger = fmaxf(seen.top, score), shrink = expf(seen.top - larger), weight = expf(score - larger);
    seen.sum = seen.sum * shrink + weight;
#pragma unroll
    for (int i = 0; i < PER; ++i) seen.out[i] = seen.out[i] * shrink + weight * value[i];
    seen.top = larger;
}

// The warps' parts together; the first warp writes the row. A sequence without tokens gives zeros.
__device__ void join(const Seen& seen, float* out, int head) {
    __shared__ float tops[WARPS], sums[WARPS], outs[WARPS][HEAD];
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    __syncthreads();  // who joins several rows uses the same places again
    if (lane == 0) tops[warp] = seen.top, sums[warp] = seen.sum;
#pragma unroll
    for (int i = 0; i < PER; ++i) outs[warp][lane + i * WARP] = seen.out[i];
    __syncthreads();
    if (warp > 0) return;
    float top = minus_infinity(), sum = 0.0f, total[PER] = {};
    for (int w = 0; w < WARPS; ++w) top = fmaxf(top, tops[w]);
    for (int w = 0; w < WARPS; ++w) {
        if (sums[w] == 0.0f) continue;  // a warp that saw no token
        float weight = expf(tops[w] - top);
        sum += weight * sums[w];
#pragma unroll
        for (int i = 0; i < PER; ++i) total[i] += weight * outs[w][lane + i * WARP];
    }
#pragma unroll
    for (int i = 0; i < PER; ++i)
        if (lane + i * WARP < head) out[lane + i * WARP] = sum > 0.0f ? total[i] / sum : 0.0f;
}

// Where token `t` of a sequence lies: its page by the table, then the place within the page.
__device__ long long place(const int* pages, int t, int kv_head, int kv_heads, int page, int head) {
    return (((long long)pages[t / page] * kv_heads + kv_head) * page + t % page) * head;
}

// A block per sequence and query head; a warp takes every fourth token.
extern "C" __global__ void decode_paged(
    const float* q, const float* keys, const float* values, const int* table, const int* lengths, float* o, int heads,
    int kv_heads, int head, int page, int most, float scale) {
    int h = blockIdx.x, sequence = blockIdx.y, lane = threadIdx.x % WARP;
    int kv_head = h / (heads / kv_heads);
    const int* pages = table + sequence * most;
    float query[PER], key[PER], value[PER];
    load(query, q + (sequence * heads + h) * head, head, lane);
    Seen seen = {minus_infinity(), 0.0f, {}};
    for (int t = threadIdx.x / WARP; t < lengths[sequence]; t += WARPS) {
        long long at = place(pages, t, kv_head, kv_heads, page, head);
        load(key, keys + at, head, lane);
        load(value, values + at, head, lane);
        see(seen, dot(query, key) * scale, value);
    }
    join(seen, o + (sequence * heads + h) * head, head);
}

// A block per sequence and K/V head: what it reads serves all query heads of the group.
extern "C" __global__ void decode_grouped(
    const float* q, const float* keys, const float* values, const int* table, const int* lengths, float* o, int heads,
    int kv_heads, int head, int page, int most, float scale) {
    int kv_head = blockIdx.x, sequence = blockIdx.y, lane = threadIdx.x % WARP;
    int group = heads / kv_heads, h = kv_head * group;
    const int* pages = table + sequence * most;
    float query[GROUP][PER], key[PER], value[PER];
    Seen seen[GROUP];
#pragma unroll
    for (int g = 0; g < GROUP; ++g) {
        seen[g] = {minus_infinity(), 0.0f, {}};
        if (g < group) load(query[g], q + (sequence * heads + h + g) * head, head, lane);
    }
    for (int t = threadIdx.x / WARP; t < lengths[sequence]; t += WARPS) {
        long long at = place(pages, t, kv_head, kv_heads, page, head);
        load(key, keys + at, head, lane);
        load(value, values + at, head, lane);
#pragma unroll
        for (int g = 0; g < GROUP; ++g)
            if (g < group) see(seen[g], dot(query[g], key) * scale, value);
    }
#pragma unroll
    for (int g = 0; g < GROUP; ++g)
        if (g < group) join(seen[g], o + (sequence * heads + h + g) * head, head);
}
