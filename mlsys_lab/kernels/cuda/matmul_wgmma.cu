// C = A B as matmul_bf16.cu has it, A (m, k) and B (k, n) in bfloat16, C (m, n) in float32, by what Hopper
// brought: a warpgroup of four warps multiplies 64 x 256 x 16 by one instruction that reads both operands
// from shared memory (wgmma), and one thread orders whole tiles from the copy engine (TMA). Needs sm_90a, and
// rows of A and B of a multiple of 16 bytes. Layouts and descriptors: PTX ISA 9.1, 9.7.15.5; barriers:
// 9.7.13.15; copies: cp.async.bulk.tensor.

constexpr int HIGH = 128, WIDE = 256, DEEP = 64;  // of a block's tile of C; of the steps along k
constexpr int STAGES = 4;                         // of the ring: 192 KiB, one block per multiprocessor
constexpr int WARP = 32, CONSUMERS = 8;           // warps that multiply: two warpgroups, each 64 x 256 of C
constexpr int THREADS = (CONSUMERS + 1) * WARP;   // the last warp fetches
constexpr int STRIP = 8;                          // rows of tiles that blocks work on at a time

// A row of 64 numbers is 128 bytes, and that is as wide as a swizzle goes: the copy engine puts the 16 bytes
// of column c of row r at column c ^ (r % 8), so that eight rows at one column lie in 32 different banks. A
// tile of B, 256 numbers wide, therefore comes as four boxes of 64 x 64, each behind the other.
constexpr int BOX = 64, ROW_BYTES = 2 * BOX, ATOM_BYTES = 8 * ROW_BYTES, BOX_BYTES = DEEP * ROW_BYTES;
constexpr int A_BYTES = HIGH * ROW_BYTES, B_BYTES = WIDE / BOX * BOX_BYTES;

// What `cuTensorMapEncodeTiled` makes; cuda.h, which declares it, is not for this compiler.
struct __align__(128) TensorMap {
    unsigned char bytes[128];
};

__device__ unsigned shared_address(const void* place) {
    return static_cast<unsigned>(__cvta_generic_to_shared(place));
}

// ---- Barriers in shared memory: a phase ends when all arrivals and all announced bytes have come. ----

__device__ void start(unsigned long long* barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals));
}

__device__ void arrive(unsigned long long* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

__device__ void arrive_and_expect(unsigned long long* barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(bytes)
                 : "memory");
}

// Waits for the end of a phase. Phases are told apart by parity alone, the first is 0. A fresh barrier is in
// phase 0, and the one before it counts as ended: who waits for parity 1 passes at once.
__device__ void wait(unsigned long long* barrier, int parity) {
    unsigned done = 0;
    while (!done)  // the instruction gives up after a while
        asm volatile(
            "{ .reg .pred ended;\n"
            "mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
            "selp.u32 %0, 1, 0, ended; }"
            : "=r"(done)
            : "r"(shared_address(barrier)), "r"(parity)
            : "memory");
}

// ---- The copy engine: a box of a matrix into shared memory, zeros beyond the edges. ----

__device__ void fetch(void* to, const TensorMap* map, int column, int row, unsigned long long* barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%2, %3}], [%4];" ::"r"(shared_address(to)),
        "l"(map), "r"(column), "r"(row), "r"(shared_address(barrier))
        : "memory");
}

// ---- Tensor cores. ----

// Where a matrix lies in shared memory: bits 0-13 its address, 16-29 and 32-45 two strides, all in units of
// 16 bytes; bits 62-63 are 1 for the swizzle of 128 bytes. What the strides lead to depends on which side is
// contiguous. A, contiguous along k: the second to the next 8 rows, the first is not used. B, contiguous
// along n: the first to the next 64 columns, the second to the next 8 rows.
__device__ unsigned long long described(const void* place, int first, int second) {
    unsigned long long address = shared_address(place) >> 4 & 0x3fff, one = first >> 4, two = second >> 4;
    return address | one << 16 | two << 32 | 1ull << 62;
}

// The registers of the sums are about to be used by wgmma: what was written to them before is ordered.
__device__ void open_group() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ void close_group() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

template <int PENDING>
__device__ void wait_for_groups() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

#define SUMS_4(i) "+f"(sum[i]), "+f"(sum[i + 1]), "+f"(sum[i + 2]), "+f"(sum[i + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4(i + 4), SUMS_4(i + 8), SUMS_4(i + 12)
#define SUMS_64(i) SUMS_16(i), SUMS_16(i + 16), SUMS_16(i + 32), SUMS_16(i + 48)

// sum += A (64 x 16) B (16 x 256), by a warpgroup. The last numbers: add to the sums (a predicate), do not
// negate A or B, A is not turned, B is: its rows are contiguous, not its columns.
__device__ void multiply(float (&sum)[128], unsigned long long a, unsigned long long b) {
    asm volatile(
        "{ .reg .pred add;\n"
        "setp.eq.u32 add, 1, 1;\n"
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
        "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
        "}, %128, %129, add, 1, 1, 0, 1; }"
        : SUMS_64(0), SUMS_64(64)
        : "l"(a), "l"(b));
}

// ---- The kernel. ----

// Row and column of a tile: down a strip of rows of tiles, then the next column. What the multiprocessors
// work on at one time then shares its rows of A and columns of B in the cache.
__device__ void place_of(int tile, int m, int n, int* top, int* left) {
    int rows = (m + HIGH - 1) / HIGH, columns = (n + WIDE - 1) / WIDE;
    int first = tile / (STRIP * columns) * STRIP, high = min(STRIP, rows - first);
    int within = tile % (STRIP * columns);
    *top = (first + within % high) * HIGH;
    *left = within / high * WIDE;
}

// A thread's sums in C. Of the 64 rows a warp has 16; lane 4 r + s has of rows r and r + 8, in every 8
// columns, 2 s and the next.
__device__ void store(const float (&sum)[128], float* c, int m, int n, int top, int left) {
    int row = top + threadIdx.x / WARP * 16 + threadIdx.x % WARP / 4;
    int column = left + threadIdx.x % 4 * 2;
    bool even = n % 2 == 0;  // then a pair lies on 8 bytes, and wholly inside or outside
#pragma unroll
    for (int i = 0; i < 128; i += 2) {
        int r = row + i / 2 % 2 * 8, s = column + i / 4 * 8;
        if (r >= m || s >= n) continue;
        float* to = c + (long long)r * n + s;
        if (even) {
            *reinterpret_cast<float2*>(to) = make_float2(sum[i], sum[i + 1]);
        } else {
            to[0] = sum[i];
            if (s + 1 < n) to[1] = sum[i + 1];
        }
    }
}

// A block makes tiles of C until there are none left. The last warp fills the ring of stages, the others
// empty it; a tile's first stages are fetched while the tile before it is still being stored.
extern "C" __global__ __launch_bounds__(THREADS)
void matmul_wgmma(
    const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map,
    float* c, int m, int n, int k) {
    extern __shared__ unsigned char memory[];
    __shared__ unsigned long long full[STAGES], empty[STAGES];
    // A swizzle goes by bits of the address, so it asks for tiles that start at a multiple of 1024 bytes.
    unsigned char* as = memory + (ATOM_BYTES - shared_address(memory) % ATOM_BYTES) % ATOM_BYTES;
    unsigned char* bs = as + STAGES * A_BYTES;
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    int tiles = ((m + HIGH - 1) / HIGH) * ((n + WIDE - 1) / WIDE), steps = (k + DEEP - 1) / DEEP;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; ++s) {
            start(&full[s], 1);
            start(&empty[s], CONSUMERS);
        }
        // The copy engine sees shared memory by a way of its own, a proxy: what it shall see, is fenced.
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
    int at = 0;  // stages since the beginning: the ring's place is at % STAGES, its round at / STAGES
    if (warp == CONSUMERS) {
        if (lane > 0) return;  // one thread orders for all
        for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
            int top, left;
            place_of(tile, m, n, &top, &left);
            for (int i = 0; i < steps; ++i, ++at) {
                int s = at % STAGES, round = at / STAGES;
                wait(&empty[s], (round + 1) % 2);  // the round before, which the first one has not
                arrive_and_expect(&full[s], A_BYTES + B_BYTES);
                fetch(as + s * A_BYTES, &a_map, i * DEEP, top, &full[s]);
#pragma unroll
                for (int box = 0; box < WIDE / BOX; ++box)
                    fetch(bs + s * B_BYTES + box * BOX_BYTES, &b_map, left + box * BOX, i * DEEP, &full[s]);
            }
        }
        return;
    }
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        int top, left;
        place_of(tile, m, n, &top, &left);
        float sum[128] = {};
        for (int i = 0; i < steps; ++i, ++at) {
            int s = at % STAGES;
            wait(&full[s], at / STAGES % 2);
            const unsigned char* a = as + s * A_BYTES + warp / 4 * (HIGH / 2) * ROW_BYTES;
            const unsigned char* b = bs + s * B_BYTES;
            open_group();
#pragma unroll
            for (int j = 0; j < DEEP; j += 16)  // along k: 32 bytes of a row of A, 16 rows of B
                multiply(
                    sum, described(a + 2 * j, 16, ATOM_BYTES),
                    described(b + j * ROW_BYTES, BOX_BYTES, ATOM_BYTES));
            close_group();
            // This group goes on while the next stage is waited for; the one before it is done, and so is its
            // stage. Every warp says so for itself.
            wait_for_groups<1>();
            if (i > 0 && lane == 0) arrive(&empty[(at - 1) % STAGES]);
        }
        wait_for_groups<0>();
        if (lane == 0) arrive(&empty[(at - 1) % STAGES]);
        store(sum, c, m, n, top, left);
    }
}
