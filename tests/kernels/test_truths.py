"""What the report must tell, against what the hardware's documentation says of small kernels."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mlsys_lab.kernels")
from mlsys_lab.kernels import CudaKernel, NotSimulated, Report


def launch(source: str, grid, block, *arguments, shared: int = 0) -> Report:
    report = CudaKernel(source)[grid, block, shared](*arguments)
    assert report is not None
    return report


def floats(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.float32)


def copied(index: str, lanes: int = 32, kind: str = "float") -> Report:
    """One warp loads x[index] and stores it to its own place."""
    source = f"""
    extern "C" __global__ void copy(const {kind}* x, {kind}* y) {{
        int i = threadIdx.x;
        y[i] = x[{index}];
    }}"""
    dtype = np.float64 if kind == "double" else np.float32
    return launch(source, 1, lanes, np.zeros(1 << 14, dtype), np.zeros(1 << 10, dtype))


@pytest.mark.parametrize(
    ("index", "kind", "sectors"),
    [
        ("i", "float", 4),
        ("2 * i", "float", 8),
        ("32 * i", "float", 32),
        ("i + 1", "float", 5),
        ("0", "float", 1),
        ("31 - i", "float", 4),
        ("i", "float4", 16),
        ("i", "double", 8),
    ],
)
def test_a_full_warps_request_touches_these_sectors(index, kind, sectors):
    report = copied(index, kind=kind)
    assert (report.global_loads.requests, report.global_loads.sectors) == (1, sectors)
    assert report.errors == report.races == []


def test_a_request_with_all_lanes_off_is_not_counted():
    source = """extern "C" __global__ void k(const float* x, float* y, int n) {
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        if (i < n) y[i] = x[i];
    }"""
    report = launch(source, 4, 64, floats(256), np.zeros(256, np.float32), 40)
    assert report.global_loads.requests == 2  # 32 lanes, then 8
    assert report.global_loads.sectors == 5


@pytest.mark.parametrize(
    ("index", "kind", "wavefronts", "ideal"),
    [
        ("t", "float", 1, 1),
        ("2 * t", "float", 2, 1),
        ("32 * t", "float", 32, 1),
        ("33 * t", "float", 1, 1),
        ("0", "float", 1, 1),
        ("(t & 1) * 32", "float", 2, 1),
        ("t", "float2", 2, 2),
        ("t", "float4", 4, 4),
        ("8 * t", "float4", 32, 4),
    ],
)
def test_a_request_to_shared_memory_takes_these_wavefronts(index, kind, wavefronts, ideal):
    source = f"""extern "C" __global__ void k({kind}* y) {{
        __shared__ {kind} s[1100];
        int t = threadIdx.x;
        for (int i = t; i < 1100; i += 32) s[i] = y[i];
        __syncthreads();
        y[t] = s[{index}];
    }}"""
    report = launch(source, 1, 32, np.zeros(1100 * 4, np.float32))
    line = report.lines[6].shared
    assert (line.requests, line.wavefronts, line.ideal) == (1, wavefronts, ideal)


TRANSPOSE = """
extern "C" __global__ void transpose(const float* x, float* y, int n) {
    __shared__ float tile[32][32 + PAD];
    int i = blockIdx.y * 32 + threadIdx.y, j = blockIdx.x * 32 + threadIdx.x;
    tile[threadIdx.y][threadIdx.x] = x[i * n + j];
    __syncthreads();
    i = blockIdx.x * 32 + threadIdx.y, j = blockIdx.y * 32 + threadIdx.x;
    y[i * n + j] = tile[threadIdx.x][threadIdx.y];
}"""


@pytest.mark.parametrize(("pad", "factor"), [(0, 32), (1, 1)])
def test_a_transpose_reads_its_tile_with_32_conflicts_or_padded_with_none(pad, factor):
    x, y = floats(64 * 64).reshape(64, 64), np.zeros((64, 64), np.float32)
    report = launch(TRANSPOSE.replace("PAD", str(pad)), (2, 2), (32, 32), x, y, 64)
    np.testing.assert_array_equal(y, x.T)
    requests = 4 * 32
    assert report.shared.requests == 2 * requests
    assert report.shared.wavefronts == requests + factor * requests
    assert report.races == report.errors == []


@pytest.mark.parametrize(("width", "efficiency"), [(32, 0.125), (16, 0.25)])
def test_the_store_efficiency_of_a_naive_transpose(width, efficiency):
    source = """extern "C" __global__ void k(const float* x, float* y, int n) {
        int i = blockIdx.y * blockDim.y + threadIdx.y, j = blockIdx.x * blockDim.x + threadIdx.x;
        y[j * n + i] = x[i * n + j];
    }"""
    x, y = floats(64 * 64).reshape(64, 64), np.zeros((64, 64), np.float32)
    report = launch(source, (64 // width,) * 2, (width,) * 2, x, y, 64)
    assert report.global_stores.efficiency == efficiency


REDUCE = """
extern "C" __global__ void reduce(const float* x, float* y) {
    __shared__ float s[256];
    int t = threadIdx.x;
    s[t] = x[blockIdx.x * 256 + t];
    __syncthreads();
    for (int k = 128; k > 0; k /= 2) {
        if (t < k) s[t] += s[t + k];
        SYNC
    }
    if (t == 0) y[blockIdx.x] = s[0];
}"""


def test_a_reduction_is_clean_with_its_barrier_and_races_without_it_in_its_line():
    x, y = floats(512), np.zeros(2, np.float32)
    right = launch(REDUCE.replace("SYNC", "__syncthreads();"), 2, 256, x, y)
    np.testing.assert_array_equal(y, x.reshape(2, 256).sum(1))
    assert right.races == right.errors == []
    wrong = launch(REDUCE.replace("SYNC", ""), 2, 256, x, y)
    assert wrong.races
    assert all(8 in race.lines or 10 in race.lines for race in wrong.races)
    assert wrong.races[0].space == "shared"
    assert wrong.races[0].threads[0] != wrong.races[0].threads[1]


WARP_END = """
extern "C" __global__ void tail(float* y) {
    __shared__ float s[32];
    int t = threadIdx.x;
    s[t] = t;
    __syncwarp();
    for (int k = 16; k > 0; k /= 2) {
        float v = 0;
        if (t < k) v = s[t + k];
        SYNC
        if (t < k) s[t] += v;
        SYNC
    }
    if (t == 0) y[0] = s[0];
}"""


def test_a_missing_syncwarp_is_a_race_though_lockstep_gives_the_right_sum():
    y = np.zeros(1, np.float32)
    right = launch(WARP_END.replace("SYNC", "__syncwarp();"), 1, 32, y)
    assert (y[0], right.races) == (496, [])
    y[:] = 0
    wrong = launch(WARP_END.replace("SYNC", ""), 1, 32, y)
    assert y[0] == 496
    assert wrong.races


def test_a_store_without_a_guard_names_line_thread_block_and_argument():
    source = """extern "C" __global__ void k(float* a, int n) {
        int i = blockIdx.x * blockDim.x + threadIdx.x;
        a[i] = 1.0f;
    }"""
    a = np.zeros(1000, np.float32)
    report = launch(source, 4, 256, a, 1000)
    assert a.all()
    (error,) = report.errors
    assert (error.kind, error.line) == ("out_of_bounds", 3)
    assert "thread (232, 0, 0) of block (3, 0, 0)" in error.message
    assert "a[1000], which has 1000" in error.message


def test_a_barrier_in_a_divergent_branch_is_flagged_and_one_after_an_early_return_is_not():
    branch = """extern "C" __global__ void k(float* y) {
        int t = threadIdx.x;
        if (t < 16) { y[t] = 1; __syncthreads(); y[t] += 1; }
        else { y[t] = 2; __syncthreads(); y[t] *= 2; }
    }"""
    report = launch(branch, 1, 32, np.zeros(32, np.float32))
    assert [e.kind for e in report.errors] == ["divergent_barrier"]
    early = """extern "C" __global__ void k(float* y, int n) {
        int t = threadIdx.x;
        if (t >= n) return;
        y[t] = 1;
        __syncthreads();
        y[t] += 1;
    }"""
    y = np.zeros(64, np.float32)
    assert launch(early, 1, 64, y, 40).errors == []
    assert y.sum() == 80


def test_two_blocks_that_add_to_one_place_race_unless_they_add_atomically():
    plain = """extern "C" __global__ void k(float* h) { if (threadIdx.x == 0) h[0] += 1; }"""
    report = launch(plain, 2, 32, np.zeros(1, np.float32))
    assert report.races
    assert report.races[0].blocks[0] != report.races[0].blocks[1]
    h = np.zeros(1, np.float32)
    atomic = """extern "C" __global__ void k(float* h) { atomicAdd(h, 1.0f); }"""
    assert launch(atomic, 4, 64, h).races == []
    assert h[0] == 256


def test_uninitialised_shared_memory_and_misaligned_vectors_are_found():
    unwritten = """extern "C" __global__ void k(float* y) {
        __shared__ float s[64];
        s[threadIdx.x] = 1;
        __syncthreads();
        y[threadIdx.x] = s[threadIdx.x + 1];
    }"""
    report = launch(unwritten, 1, 32, np.zeros(32, np.float32))
    assert [(e.kind, e.line) for e in report.errors] == [("uninitialised_shared", 5)]
    crooked = """extern "C" __global__ void k(const float* x, float4* y) {
        y[threadIdx.x] = *(const float4*)(x + threadIdx.x + 1);
    }"""
    report = launch(crooked, 1, 8, floats(64), np.zeros(64, np.float32))
    assert report.errors[0].kind == "misaligned"


SGEMM = """extern "C" __global__ void gemm(const float* a, const float* b, float* c, int n) {
    int j = blockIdx.x * blockDim.x + threadIdx.x, i = blockIdx.y * blockDim.y + threadIdx.y;
    float sum = 0;
    for (int k = 0; k < n; k++) sum += a[i * n + k] * b[k * n + j];
    c[i * n + j] = sum;
}"""


def test_the_flops_of_a_matrix_product_are_twice_its_cube():
    rng = np.random.default_rng(0)
    a, b = (rng.random((64, 64), dtype=np.float32) for _ in range(2))
    c = np.zeros_like(a)
    report = launch(SGEMM, (4, 4), (16, 16), a, b, c, 64)
    np.testing.assert_allclose(c, a.astype(np.float64) @ b, rtol=1e-5)
    assert report.flops == pytest.approx(2 * 64**3, rel=0.01)


def test_nested_loops_that_diverge_are_exact():
    source = """extern "C" __global__ void k(int* y) {
        int t = threadIdx.x, sum = 0;
        for (int i = 0; i < t; i++)
            for (int j = i; j < t; j++) {
                if ((i ^ j) % 3 == 0) continue;
                if (j > 25) break;
                sum += i * j + 1;
            }
        y[t] = sum;
    }"""
    y = np.zeros(64, np.int32)

    def by_hand(t: int) -> int:
        total = 0
        for i in range(t):
            for j in range(i, t):
                if (i ^ j) % 3 == 0:
                    continue
                if j > 25:
                    break
                total += i * j + 1
        return total

    report = launch(source, 1, 64, y)
    np.testing.assert_array_equal(y, [by_hand(t) for t in range(64)])
    assert report.errors == []


def test_a_spin_lock_ends_and_a_lock_that_nobody_releases_is_given_up():
    lock = """extern "C" __global__ void k(int* lock, volatile int* sum) {
        while (atomicCAS(lock, 0, 1) != 0);
        __threadfence();
        sum[0] = sum[0] + 1;
        __threadfence();
        RELEASE
    }"""
    state, total = np.zeros(1, np.int32), np.zeros(1, np.int32)
    report = launch(lock.replace("RELEASE", "atomicExch(lock, 0);"), 2, 20, state, total)
    assert (total[0], report.errors) == (40, [])
    state[:] = 0
    stuck = CudaKernel(lock.replace("RELEASE", ""))[1, 32](state, total, steps=2_000)
    assert [e.kind for e in stuck.errors] == ["step_limit"]


@pytest.mark.parametrize("spin", ["", "if (atomicAdd(count, 0) < 0) return;"])
def test_lanes_that_part_in_a_long_loop_meet_again_before_each_shuffle(spin):
    source = f"""extern "C" __global__ void k(const float* x, float* y, int* count, int n) {{
        float sum = 0.0f;
        for (int i = 0; i < n; ++i) {{
            float value = 0.0f;
            if (threadIdx.x % 3 == i % 3) value = x[i * 64 + threadIdx.x];
            if (threadIdx.x % 5 == 1) value += expf(x[i]);
            {spin}
            for (int half = 16; half > 0; half /= 2) value += __shfl_xor_sync(0xffffffff, value, half);
            sum += value;
        }}
        y[threadIdx.x] = sum;
    }}"""
    n, x, y = 200, np.random.default_rng(0).random(200 * 64).astype(np.float32), floats(64)
    launch(source, 1, 64, x, y, np.zeros(1, np.int32), n)
    t, i = np.arange(64), np.arange(n)[:, None]
    parts = np.where(t % 3 == i % 3, x.reshape(n, 64), 0) + np.where(t % 5 == 1, np.exp(x[:n, None]), 0)
    np.testing.assert_allclose(y, parts.reshape(n, 2, 32).sum(axis=(0, 2)).repeat(32), rtol=1e-5)


def test_a_barrier_that_some_never_reach_is_a_deadlock():
    source = """extern "C" __global__ void k(volatile int* flag, int* y) {
        if (threadIdx.x == 0) { __syncthreads(); y[0] = 1; }
        else { while (flag[0] == 0); __syncthreads(); }
    }"""
    report = CudaKernel(source)[1, 32](np.zeros(1, np.int32), np.zeros(1, np.int32), steps=5_000)
    assert [e.kind for e in report.errors] == ["step_limit"]
    named = """extern "C" __global__ void k(int* y) {
        if (threadIdx.x < 32) asm volatile("bar.sync 1, 64;");
        else asm volatile("bar.sync 2, 64;");
        y[threadIdx.x] = 1;
    }"""
    report = CudaKernel(named)[1, 64](np.zeros(64, np.int32))
    assert [e.kind for e in report.errors] == ["deadlock"]


def test_an_unknown_instruction_is_refused_by_name_with_its_line():
    source = """extern "C" __global__ void k(int* y) {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        y[0] = 1;
    }"""
    with pytest.raises(NotSimulated, match=r"line 2: the instruction setmaxnreg\.inc.* is not simulated"):
        CudaKernel(source)


def test_the_warp_computes_together():
    source = """extern "C" __global__ void k(int* y) {
        int t = threadIdx.x, v = t * t;
        unsigned full = 0xffffffff;
        y[t] = __shfl_xor_sync(full, v, 5);
        y[32 + t] = __shfl_up_sync(full, v, 3);
        y[64 + t] = __shfl_sync(full, v, t * 7 % 32, 16);
        y[96 + t] = __popc(__ballot_sync(full, t % 3 == 0));
        y[128 + t] = __any_sync(full, t == 40) + 2 * __all_sync(full, t < 32);
        y[160 + t] = __match_any_sync(full, t % 5);
        y[192 + t] = __reduce_add_sync(full, t);
        y[224 + t] = __activemask();
        y[256 + t] = __shfl_down_sync(full, v, 4);
    }"""
    y = np.zeros(288, np.int32)
    launch(source, 1, 32, y)
    t = np.arange(32)
    v = t * t
    got = y.reshape(9, 32)
    np.testing.assert_array_equal(got[0], v[t ^ 5])
    np.testing.assert_array_equal(got[1], np.where(t >= 3, v[np.maximum(t - 3, 0)], v))
    np.testing.assert_array_equal(got[2], v[(t & 16) + (t * 7 % 32) % 16])
    assert (got[3] == 11).all()
    assert (got[4] == 2).all()
    np.testing.assert_array_equal(
        got[5].view(np.uint32), [sum(1 << i for i in range(32) if i % 5 == n % 5) for n in t]
    )
    assert (got[6] == 496).all()
    assert (got[7] == -1).all()
    np.testing.assert_array_equal(got[8], np.where(t + 4 < 32, v[np.minimum(t + 4, 31)], v))


LAST_BLOCK = """extern "C" __global__ void k(
    const float* x, volatile float* part, float* y, unsigned* count) {
    __shared__ bool last;
    int t = threadIdx.x;
    if (t == 0) {
        part[blockIdx.x] = x[blockIdx.x];
        FENCE
        last = atomicAdd(count, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && t == 0) {
        float sum = 0;
        for (int i = 0; i < gridDim.x; i++) sum += ((float*)part)[i];
        y[0] = sum;
    }
}"""
LOCK = """extern "C" __global__ void k(int* lock, int* sum) {
    if (threadIdx.x == 0) {
        while (atomicCAS(lock, 0, 1) != 0);
        FENCE
        sum[0] = sum[0] + 1;
        FENCE
        atomicExch(lock, 0);
    }
}"""


def test_the_last_block_sums_cleanly_with_a_fence_and_races_without():
    x = floats(6)
    for fence, clean in (("__threadfence();", True), ("", False)):
        y = np.zeros(1, np.float32)
        source = LAST_BLOCK.replace("FENCE", fence)
        report = launch(source, 6, 32, x, np.zeros(6, np.float32), y, np.zeros(1, np.uint32))
        assert y[0] == 15
        assert report.errors == []
        assert (report.races == []) is clean, [r.message for r in report.races]


def test_a_spin_lock_is_clean_with_fences_and_races_without():
    for fence, clean in (("__threadfence();", True), ("", False)):
        total = np.zeros(1, np.int32)
        report = launch(LOCK.replace("FENCE", fence), 5, 32, np.zeros(1, np.int32), total)
        assert total[0] == 5
        assert (report.races == []) is clean, [r.message for r in report.races]


def test_variables_of_the_module_keep_their_values_from_launch_to_launch_of_one_kernel():
    source = """__device__ int c = 5;
extern "C" __global__ void k(int* y) { y[0] = c; c += 1; }"""
    kernel, out = CudaKernel(source), np.zeros(1, np.int32)
    seen = [kernel[1, 1](out) and int(out[0]) for _ in range(3)]
    CudaKernel(source)[1, 1](out)
    assert (seen, int(out[0])) == ([5, 6, 7], 5)
