// AdamW (Kingma and Ba 2015; Loshchilov and Hutter 2019): bound by memory, so one kernel that reads each array once
// beats three that each do a step. `m` and `v` are running means of the gradient and of its square; `c1` and
// `c2` are 1 - beta^t, which undo their start at zero.

constexpr int THREADS = 256;

// beta * average + (1 - beta) * gradient, or its square.
extern "C" __global__ void adam_average(const float* gradient, float* average, float beta, int square, int n) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    float g = gradient[i];
    average[i] = beta * average[i] + (1.0f - beta) * (square ? g * g : g);
}

extern "C" __global__ void adam_step(
    float* weight, const float* m, const float* v, float rate, float eps, float decay, float c1, float c2, int n) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    float w = weight[i] * (1.0f - rate * decay);
    weight[i] = w - rate * (m[i] / c1) / (sqrtf(v[i] / c2) + eps);
}

extern "C" __global__ void adam_fused(
    float* weight, const float* gradient, float* m, float* v, float rate, float beta1, float beta2, float eps,
    float decay, float c1, float c2, int n) {
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    float g = gradient[i];
    float first = beta1 * m[i] + (1.0f - beta1) * g;
    float second = beta2 * v[i] + (1.0f - beta2) * g * g;
    float w = weight[i] * (1.0f - rate * decay);
    weight[i] = w - rate * (first / c1) / (sqrtf(second / c2) + eps);
    m[i] = first;
    v[i] = second;
}
