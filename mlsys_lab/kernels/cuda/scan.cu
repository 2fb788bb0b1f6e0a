// The running sum (inclusive scan): each result needs all before it, yet log2(n) steps suffice.

constexpr int THREADS = 256, WARP = 32;
constexpr unsigned ALL = 0xffffffffu;

// Hillis and Steele 1986: in step s each thread adds what lies 2^s before it. Few steps, n log n additions.
// One block takes tile after tile; `carry` is the sum of all tiles before. Two buffers, so that nobody
// overwrites what a neighbour has yet to read.
extern "C" __global__ void scan_hillis_steele(const float* x, float* y, int n) {
    __shared__ float buffer[2][THREADS];
    int t = threadIdx.x;
    float carry = 0.0f;
    for (int start = 0; start < n; start += THREADS) {
        int from = 0, i = start + t;
        buffer[from][t] = i < n ? x[i] : 0.0f;
        for (int reach = 1; reach < THREADS; reach *= 2) {
            __syncthreads();
            float value = buffer[from][t];
            if (t >= reach) value += buffer[from][t - reach];
            buffer[1 - from][t] = value;
            from = 1 - from;
        }
        __syncthreads();
        if (i < n) y[i] = carry + buffer[from][t];
        carry += buffer[from][THREADS - 1];
        __syncthreads();  // the next tile comes into the same buffers
    }
}

// Blelloch 1990: up a tree of sums and down again, about 2n additions. The tile is twice the block.
extern "C" __global__ void scan_blelloch(const float* x, float* y, int n) {
    constexpr int TILE = 2 * THREADS;
    __shared__ float tree[TILE];
    __shared__ float total;
    int t = threadIdx.x;
    float carry = 0.0f;
    for (int start = 0; start < n; start += TILE) {
        int i = start + t, j = i + THREADS;
        float first = i < n ? x[i] : 0.0f, second = j < n ? x[j] : 0.0f;
        tree[t] = first;
        tree[t + THREADS] = second;
        int reach = 1;
        for (int nodes = THREADS; nodes > 0; nodes /= 2) {  // up: each node gets the sum below it
            __syncthreads();
            if (t < nodes) tree[reach * (2 * t + 2) - 1] += tree[reach * (2 * t + 1) - 1];
            reach *= 2;
        }
        if (t == 0) {  // the root was this thread's own last step
            total = tree[TILE - 1];
            tree[TILE - 1] = 0.0f;
        }
        for (int nodes = 1; nodes < TILE; nodes *= 2) {  // down: each node hands on the sum before it
            reach /= 2;
            __syncthreads();
            if (t < nodes) {
                int left = reach * (2 * t + 1) - 1, right = reach * (2 * t + 2) - 1;
                float before = tree[right];
                tree[right] = before + tree[left];
                tree[left] = before;
            }
        }
        __syncthreads();
        if (i < n) y[i] = carry + tree[t] + first;  // the tree is exclusive
        if (j < n) y[j] = carry + tree[t + THREADS] + second;
        carry += total;
        __syncthreads();
    }
}

// Many blocks: each scans its tile by shuffles and leaves its sum, another kernel scans the sums, and
// `scan_add` adds to each tile what lies before it.
extern "C" __global__ void scan_tiles(const float* x, float* y, float* sums, int n) {
    __shared__ float warps[THREADS / WARP];
    int t = threadIdx.x, lane = t % WARP, warp = t / WARP, i = blockIdx.x * THREADS + t;
    float value = i < n ? x[i] : 0.0f;
    for (int reach = 1; reach < WARP; reach *= 2) {
        float before = __shfl_up_sync(ALL, value, reach);
        if (lane >= reach) value += before;
    }
    if (lane == WARP - 1) warps[warp] = value;
    __syncthreads();
    for (int w = 0; w < warp; ++w) value += warps[w];
    if (i < n) y[i] = value;
    if (t == THREADS - 1) sums[blockIdx.x] = value;
}

// Block b adds the scanned sum of the blocks before it.
extern "C" __global__ void scan_add(float* y, const float* sums, int n) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < n && blockIdx.x > 0) y[i] += sums[blockIdx.x - 1];
}
