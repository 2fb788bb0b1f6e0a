// What CUDA C++ takes for granted, for clang without NVIDIA's headers: built-in variables, barriers,
// shuffles, votes, atomics and single-precision functions. Those on floats are the hardware's
// approximations.
#pragma once
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __host__ __attribute__((host))
#define __shared__ __attribute__((shared))
#define __constant__ __attribute__((constant))
#define __forceinline__ __inline__ __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#define __align__(n) __attribute__((aligned(n)))
#define INLINE static __device__ __forceinline__

typedef unsigned long size_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;

struct uint3 { unsigned x, y, z; };
typedef float float2 __attribute__((ext_vector_type(2)));
typedef float float4 __attribute__((ext_vector_type(4)));
typedef int int2 __attribute__((ext_vector_type(2)));
typedef int int4 __attribute__((ext_vector_type(4)));
INLINE float2 make_float2(float x, float y) { return {x, y}; }
INLINE float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
INLINE int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

#define READ(name, part) __nvvm_read_ptx_sreg_##name##_##part()
#define TRIPLE(function, name) INLINE uint3 function() { \
    return {(unsigned)READ(name, x), (unsigned)READ(name, y), (unsigned)READ(name, z)}; }
TRIPLE(mlsys_tid, tid)
TRIPLE(mlsys_ctaid, ctaid)
TRIPLE(mlsys_ntid, ntid)
TRIPLE(mlsys_nctaid, nctaid)
#define threadIdx (mlsys_tid())
#define blockIdx (mlsys_ctaid())
#define blockDim (mlsys_ntid())
#define gridDim (mlsys_nctaid())
static const __device__ int warpSize = 32;

#define VOTE(name, op) INLINE int name(int p) { \
    int r; \
    asm volatile("{ .reg .pred q, s; setp.ne.s32 q, %1, 0; " op " }" : "=r"(r) : "r"(p) : "memory"); \
    return r; }
VOTE(__syncthreads_count, "bar.red.popc.u32 %0, 0, q;")
VOTE(__syncthreads_and, "bar.red.and.pred s, 0, q; selp.s32 %0, 1, 0, s;")
VOTE(__syncthreads_or, "bar.red.or.pred s, 0, q; selp.s32 %0, 1, 0, s;")
INLINE void __syncwarp(unsigned mask = 0xffffffffu) {
    asm volatile("bar.warp.sync %0;" :: "r"(mask) : "memory");
}
INLINE size_t __cvta_generic_to_shared(const void* p) {
    size_t r; asm("cvta.to.shared.u64 %0, %1;" : "=l"(r) : "l"(p)); return r; }
INLINE void* __cvta_shared_to_generic(size_t p) {
    void* r; asm("cvta.shared.u64 %0, %1;" : "=l"(r) : "l"(p)); return r; }
INLINE long long clock64() {  // the simulator refuses it, and says so
    long long now;
    asm volatile("mov.u64 %0, %%clock64;" : "=l"(now)::"memory");
    return now;
}
INLINE long clock() { return clock64(); }
INLINE void __threadfence_system() { asm volatile("membar.sys;" ::: "memory"); }
INLINE void __threadfence() { asm volatile("membar.gl;" ::: "memory"); }
INLINE void __trap() { asm volatile("trap;"); }
extern "C" __device__ int printf(const char* form, ...);
INLINE void __threadfence_block() { asm volatile("membar.cta;" ::: "memory"); }
INLINE unsigned __activemask() { unsigned r; asm volatile("activemask.b32 %0;" : "=r"(r)); return r; }
INLINE unsigned __ballot_sync(unsigned mask, int p) {
    unsigned r;
    asm volatile("{ .reg .pred q; setp.ne.s32 q, %1, 0; vote.sync.ballot.b32 %0, q, %2; }"
        : "=r"(r) : "r"(p), "r"(mask));
    return r;
}
INLINE unsigned __match_any_sync(unsigned mask, unsigned value) {
    unsigned r;
    asm volatile("match.any.sync.b32 %0, %1, %2;" : "=r"(r) : "r"(value), "r"(mask));
    return r;
}
INLINE unsigned __reduce_add_sync(unsigned mask, unsigned value) {
    unsigned r;
    asm volatile("redux.sync.add.u32 %0, %1, %2;" : "=r"(r) : "r"(value), "r"(mask));
    return r;
}
INLINE int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
INLINE int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, !p) == 0; }

#define SHUFFLE(name, mode, type, constraint, clamp) \
    INLINE type name(unsigned mask, type value, int lane, int width = 32) { \
        type r; \
        asm volatile("shfl.sync." mode ".b32 %0, %1, %2, %3, %4;" \
            : "=" constraint(r) \
            : constraint(value), "r"(lane), "r"(((32 - width) << 8) | (clamp)), "r"(mask)); \
        return r; \
    }
#define SHUFFLES(type, constraint) \
    SHUFFLE(__shfl_sync, "idx", type, constraint, 31) \
    SHUFFLE(__shfl_up_sync, "up", type, constraint, 0) \
    SHUFFLE(__shfl_down_sync, "down", type, constraint, 31) \
    SHUFFLE(__shfl_xor_sync, "bfly", type, constraint, 31)
SHUFFLES(float, "f")
SHUFFLES(int, "r")
SHUFFLES(unsigned, "r")

#define ATOMIC(name, op, type, suffix, constraint) INLINE type name(type* where, type value) { \
    type r; \
    asm volatile("atom." op "." suffix " %0, [%1], %2;" \
        : "=" constraint(r) : "l"(where), constraint(value) : "memory"); \
    return r; }
ATOMIC(atomicAdd, "add", float, "f32", "f")
ATOMIC(atomicAdd, "add", int, "s32", "r")
ATOMIC(atomicAdd, "add", unsigned, "u32", "r")
ATOMIC(atomicAdd, "add", unsigned long long, "u64", "l")
ATOMIC(atomicMin, "min", int, "s32", "r")
ATOMIC(atomicMax, "max", int, "s32", "r")
ATOMIC(atomicMin, "min", unsigned, "u32", "r")
ATOMIC(atomicMax, "max", unsigned, "u32", "r")
ATOMIC(atomicExch, "exch", int, "b32", "r")
ATOMIC(atomicExch, "exch", unsigned, "b32", "r")
ATOMIC(atomicOr, "or", unsigned, "b32", "r")
ATOMIC(atomicAnd, "and", unsigned, "b32", "r")
ATOMIC(atomicInc, "inc", unsigned, "u32", "r")
INLINE int atomicCAS(int* where, int compare, int value) {
    int r;
    asm volatile("atom.cas.b32 %0, [%1], %2, %3;"
        : "=r"(r) : "l"(where), "r"(compare), "r"(value) : "memory");
    return r;
}

#define UNARY(name, instruction) INLINE float name(float x) { \
    float r; asm(instruction " %0, %1;" : "=f"(r) : "f"(x)); return r; }
UNARY(mlsys_ex2, "ex2.approx.f32")
UNARY(mlsys_lg2, "lg2.approx.f32")
UNARY(sqrtf, "sqrt.rn.f32")
UNARY(rsqrtf, "rsqrt.approx.f32")
UNARY(sinf, "sin.approx.f32")
UNARY(cosf, "cos.approx.f32")
UNARY(tanhf, "tanh.approx.f32")
UNARY(fabsf, "abs.f32")
UNARY(floorf, "cvt.rmi.f32.f32")
UNARY(ceilf, "cvt.rpi.f32.f32")
UNARY(truncf, "cvt.rzi.f32.f32")
UNARY(rintf, "cvt.rni.f32.f32")
INLINE float expf(float x) { return mlsys_ex2(x * 1.4426950408889634f); }
INLINE float exp2f(float x) { return mlsys_ex2(x); }
INLINE float logf(float x) { return mlsys_lg2(x) * 0.6931471805599453f; }
INLINE float log2f(float x) { return mlsys_lg2(x); }
INLINE float powf(float x, float y) { return mlsys_ex2(y * mlsys_lg2(x)); }
#define EXTREME(name, instruction) INLINE float name(float a, float b) { \
    float r; asm(instruction " %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
EXTREME(fmaxf, "max.f32")
EXTREME(fminf, "min.f32")
INLINE float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
INLINE float __expf(float x) { return expf(x); }
INLINE float __logf(float x) { return logf(x); }
INLINE float __fdividef(float a, float b) { return a / b; }
INLINE float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
// Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: off by at most 1.5e-7.
INLINE float erff(float x) {
    float a = fabsf(x), t = 1.0f / (1.0f + 0.3275911f * a);
    float p = ((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f;
    float y = 1.0f - (p * t + 0.254829592f) * t * expf(-a * a);
    return x < 0 ? -y : y;
}
INLINE int min(int a, int b) { return a < b ? a : b; }
INLINE int max(int a, int b) { return a > b ? a : b; }
INLINE unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
INLINE unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
INLINE float min(float a, float b) { return fminf(a, b); }
INLINE float max(float a, float b) { return fmaxf(a, b); }
INLINE int abs(int a) { return a < 0 ? -a : a; }
INLINE int __popc(unsigned x) { return __builtin_popcount(x); }
INLINE int __clz(int x) { return x ? __builtin_clz(x) : 32; }
INLINE int __ffs(int x) { return __builtin_ffs(x); }

// The bits of a value under another type.
#define BITS(name, to, from) INLINE to name(from x) { return __builtin_bit_cast(to, x); }
BITS(__int_as_float, float, int)
BITS(__uint_as_float, float, unsigned)
BITS(__float_as_int, int, float)
BITS(__float_as_uint, unsigned, float)
BITS(__longlong_as_double, double, long long)
BITS(__double_as_longlong, long long, double)
INLINE bool isnan(float x) { return x != x; }
INLINE bool isinf(float x) { return fabsf(x) == __builtin_inff(); }
INLINE float __ldg(const float* place) { return *place; }
INLINE int __ldg(const int* place) { return *place; }
INLINE float4 __ldg(const float4* place) { return *place; }
