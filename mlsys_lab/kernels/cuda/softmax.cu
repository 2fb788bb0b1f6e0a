// Softmax of each row, one block per row: bound by memory, so the ladder counts how often a row is read.

constexpr int THREADS = 256, WARP = 32, WARPS = THREADS / WARP;
constexpr unsigned ALL = 0xffffffffu;

__device__ float minus_infinity() { return __int_as_float(0xff800000); }

struct Larger {
    static __device__ float of(float a, float b) { return fmaxf(a, b); }
    static __device__ float nothing() { return minus_infinity(); }
};
struct Sum {
    static __device__ float of(float a, float b) { return a + b; }
    static __device__ float nothing() { return 0.0f; }
};

// A value of the whole block, known to every thread; `part` has room for one number per warp.
template <class Operation>
__device__ float over_block(float value, float* part) {
    for (int half = WARP / 2; half > 0; half /= 2)
        value = Operation::of(value, __shfl_xor_sync(ALL, value, half));
    if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = value;
    __syncthreads();
    value = threadIdx.x % WARP < WARPS ? part[threadIdx.x % WARP] : Operation::nothing();
    for (int half = WARP / 2; half > 0; half /= 2)
        value = Operation::of(value, __shfl_xor_sync(ALL, value, half));
    return value;
}

// By the definition: the row is read for its maximum, for its sum and for its result.
extern "C" __global__ void softmax_three_pass(const float* x, float* y, int columns) {
    __shared__ float largest[WARPS], sums[WARPS];
    x += (long long)blockIdx.x * columns;
    y += (long long)blockIdx.x * columns;
    float top = minus_infinity();
    for (int i = threadIdx.x; i < columns; i += THREADS) top = fmaxf(top, x[i]);
    top = over_block<Larger>(top, largest);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < columns; i += THREADS) sum += expf(x[i] - top);
    sum = over_block<Sum>(sum, sums);
    for (int i = threadIdx.x; i < columns; i += THREADS) y[i] = expf(x[i] - top) / sum;
}

// Milakov and Gimelshein 2018: maximum and sum in one pass. Where a larger value comes, the sum so far
// shrinks by exp(old maximum - new maximum).
extern "C" __global__ void softmax_online(const float* x, float* y, int columns) {
    __shared__ float largest[WARPS], sums[WARPS];
    x += (long long)blockIdx.x * columns;
    y += (long long)blockIdx.x * columns;
    float top = minus_infinity(), sum = 0.0f;
    for (int i = threadIdx.x; i < columns; i += THREADS) {
        float value = x[i], larger = fmaxf(top, value);
        // Equal maxima are not subtracted: that is NaN where both are infinite.
        sum = (top == larger ? sum : sum * expf(top - larger)) + (value == larger ? 1.0f : expf(value - larger));
        top = larger;
    }
    float own = top;
    top = over_block<Larger>(own, largest);
    sum = over_block<Sum>(own == top ? sum : sum * expf(own - top), sums);
    for (int i = threadIdx.x; i < columns; i += THREADS) y[i] = expf(x[i] - top) / sum;
}
