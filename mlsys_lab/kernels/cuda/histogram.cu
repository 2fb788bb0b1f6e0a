// How often each value occurs: where the data decides who writes where, and additions must be atomic.

constexpr int THREADS = 256;

// Every element is an atomic addition in global memory; values outside of the bins count nowhere.
extern "C" __global__ void histogram_global(const int* x, int* counts, int n, int bins) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < n && x[i] >= 0 && x[i] < bins) atomicAdd(&counts[x[i]], 1);
}

// Each block counts in shared memory, near its lanes, and adds its counts to the others' once at the end.
extern "C" __global__ void histogram_shared(const int* x, int* counts, int n, int bins) {
    extern __shared__ int mine[];  // one count per bin
    for (int bin = threadIdx.x; bin < bins; bin += THREADS) mine[bin] = 0;
    __syncthreads();
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
        int bin = x[i];
        if (bin >= 0 && bin < bins) atomicAdd(&mine[bin], 1);
    }
    __syncthreads();
    for (int bin = threadIdx.x; bin < bins; bin += THREADS) atomicAdd(&counts[bin], mine[bin]);
}
