// y = (x - mean) / sqrt(variance + eps) * gain + bias, one block per row.

constexpr int THREADS = 256, WARP = 32, WARPS = THREADS / WARP;
constexpr unsigned ALL = 0xffffffffu;

__device__ float block_sum(float value, float* part) {
    for (int half = WARP / 2; half > 0; half /= 2) value += __shfl_xor_sync(ALL, value, half);
    if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = value;
    __syncthreads();
    float sum = 0.0f;
    for (int w = 0; w < WARPS; ++w) sum += part[w];
    return sum;
}

// By the definition: the row is read for its mean, for its variance and for its result.
extern "C" __global__ void layernorm_three_pass(
    const float* x, const float* gain, const float* bias, float* y, int columns, float eps) {
    __shared__ float first[WARPS], second[WARPS];
    x += (long long)blockIdx.x * columns;
    y += (long long)blockIdx.x * columns;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < columns; i += THREADS) sum += x[i];
    float mean = block_sum(sum, first) / columns;
    float squares = 0.0f;
    for (int i = threadIdx.x; i < columns; i += THREADS) squares += (x[i] - mean) * (x[i] - mean);
    float scale = rsqrtf(block_sum(squares, second) / columns + eps);
    for (int i = threadIdx.x; i < columns; i += THREADS) y[i] = (x[i] - mean) * scale * gain[i] + bias[i];
}

// What Welford 1962 keeps of the values so far. Sums of squares would cancel where the mean is large; this does not.
struct Moments {
    float count, mean, squares;  // squares: of the distances from the mean
};

// Chan, Golub and LeVeque 1979: the moments of two sets together.
__device__ Moments merged(Moments a, Moments b) {
    float count = a.count + b.count, apart = b.mean - a.mean;
    float share = count > 0.0f ? b.count / count : 0.0f;
    return {count, a.mean + apart * share, a.squares + b.squares + apart * apart * a.count * share};
}

// Mean and variance in one pass: the row is read twice instead of three times.
extern "C" __global__ void layernorm_welford(
    const float* x, const float* gain, const float* bias, float* y, int columns, float eps) {
    __shared__ Moments part[WARPS];
    x += (long long)blockIdx.x * columns;
    y += (long long)blockIdx.x * columns;
    Moments mine = {0.0f, 0.0f, 0.0f};
    for (int i = threadIdx.x; i < columns; i += THREADS) {
        float apart = x[i] - mine.mean;
        mine.count += 1.0f;
        mine.mean += apart / mine.count;
        mine.squares += apart * (x[i] - mine.mean);
    }
    for (int half = WARP / 2; half > 0; half /= 2) {
        Moments other = {
            __shfl_xor_sync(ALL, mine.count, half),
            __shfl_xor_sync(ALL, mine.mean, half),
            __shfl_xor_sync(ALL, mine.squares, half),
        };
        mine = merged(mine, other);
    }
    if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = mine;
    __syncthreads();
    mine = part[0];
    for (int w = 1; w < WARPS; ++w) mine = merged(mine, part[w]);
    float scale = rsqrtf(mine.squares / columns + eps);
    for (int i = threadIdx.x; i < columns; i += THREADS) y[i] = (x[i] - mine.mean) * scale * gain[i] + bias[i];
}
