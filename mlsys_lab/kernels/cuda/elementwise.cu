// One thread per element: what a kernel is, and what an access costs that does not go along the lanes.

extern "C" __global__ void vector_add(const float* x, const float* y, float* z, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) z[i] = x[i] + y[i];  // the last block has threads to spare
}

// Four elements per thread: a warp asks once for 512 bytes instead of four times for 128.
extern "C" __global__ void vector_add_float4(const float* x, const float* y, float* z, int n) {
    int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
    if (i + 3 < n) {
        float4 a = *reinterpret_cast<const float4*>(x + i);
        float4 b = *reinterpret_cast<const float4*>(y + i);
        *reinterpret_cast<float4*>(z + i) = make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
    } else {
        for (; i < n; ++i) z[i] = x[i] + y[i];
    }
}

// A fixed grid walks over data of any size; multiply and add are one instruction that rounds once.
extern "C" __global__ void saxpy(float a, const float* x, float* y, int n) {
    int stride = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) y[i] = a * x[i] + y[i];
}

// y[i] = x[i * stride]: from a stride of 8 floats on, every lane needs a sector of its own.
extern "C" __global__ void copy_strided(const float* x, float* y, int n, int stride) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i * stride];
}
