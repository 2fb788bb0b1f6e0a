// The sum of an array, from one thread to all: fewer steps, then fewer atomics, no divergence, no shared memory
// between lanes of a warp, and at last more work per thread.

constexpr int THREADS = 256, WARP = 32;
constexpr unsigned ALL = 0xffffffffu;

// The yardstick: n steps, while all other lanes of the GPU have nothing to do.
extern "C" __global__ void sum_one_thread(const float* x, float* total, int n) {
    float sum = 0.0f;
    for (int i = 0; i < n; ++i) sum += x[i];
    *total = sum;
}

// All threads at once, but their additions queue at one address. The order, and so the rounding, is left to chance.
extern "C" __global__ void sum_atomic(const float* x, float* total, int n) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < n) atomicAdd(total, x[i]);
}

// A tree in shared memory: log2(256) steps and one atomic per block. Neighbours add, so lanes that work
// lie between lanes that do not, and every warp runs every step.
extern "C" __global__ void sum_tree_divergent(const float* x, float* total, int n) {
    __shared__ float part[THREADS];
    int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    part[t] = i < n ? x[i] : 0.0f;
    for (int step = 1; step < THREADS; step *= 2) {
        __syncthreads();
        if (t % (2 * step) == 0) part[t] += part[t + step];
    }
    if (t == 0) atomicAdd(total, part[0]);
}

// The same tree, folded from its far half: the lanes that work are neighbours, and whole warps fall idle.
extern "C" __global__ void sum_tree(const float* x, float* total, int n) {
    __shared__ float part[THREADS];
    int t = threadIdx.x, i = blockIdx.x * THREADS + t;
    part[t] = i < n ? x[i] : 0.0f;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) part[t] += part[t + half];
    }
    if (t == 0) atomicAdd(total, part[0]);
}

// Lanes of a warp hand their registers over: no memory, no barrier. The sum is lane 0's.
__device__ float warp_sum(float value) {
    for (int half = WARP / 2; half > 0; half /= 2) value += __shfl_down_sync(ALL, value, half);
    return value;
}

// Shared memory holds one number per warp. The sum is thread 0's.
__device__ float block_sum(float value) {
    __shared__ float part[THREADS / WARP];
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    value = warp_sum(value);
    if (lane == 0) part[warp] = value;
    __syncthreads();
    if (warp == 0) value = warp_sum(lane < THREADS / WARP ? part[lane] : 0.0f);
    return value;
}

extern "C" __global__ void sum_shuffle(const float* x, float* total, int n) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    float sum = block_sum(i < n ? x[i] : 0.0f);
    if (threadIdx.x == 0) atomicAdd(total, sum);
}

// A fixed grid: each thread first adds what lies a grid apart, so the tree is paid once per thread, not per element.
// Launched twice, the second time by one block on the partial sums: no atomics, and always the same rounding.
extern "C" __global__ void sum_two_pass(const float* x, float* partial, int n) {
    float sum = 0.0f;
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) sum += x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}
