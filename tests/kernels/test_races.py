"""Which accesses race and which are ordered, case by case, against the memory model of the PTX ISA."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mlsys_lab.kernels")
from mlsys_lab.kernels import CudaKernel, Report
from tests.kernels.conftest import needs_nvrtc


def launch(source: str, grid: int, block: int) -> Report:
    """Run `k(int* data, int* flag, int* out, int* lock)`, all zeros but out[3] = the number of blocks."""
    arrays = [np.zeros(512, np.int32) for _ in range(4)]
    arrays[2][3] = grid
    report = CudaKernel(HEAD + source, "k")[grid, block](*arrays)
    assert report is not None
    assert report.errors == []
    return report


HEAD = """
__device__ int acquired(int* f) {
    int v; asm volatile("ld.acquire.gpu.s32 %0, [%1];" : "=r"(v) : "l"(f) : "memory"); return v; }
__device__ int relaxed(int* f) {
    int v; asm volatile("ld.relaxed.gpu.s32 %0, [%1];" : "=r"(v) : "l"(f) : "memory"); return v; }
__device__ int relaxed_in_block(int* f) {
    int v; asm volatile("ld.relaxed.cta.s32 %0, [%1];" : "=r"(v) : "l"(f) : "memory"); return v; }
#define RELEASE(f) asm volatile("st.release.gpu.s32 [%0], 1;" :: "l"(f) : "memory")
#define RELAXED(f) asm volatile("st.relaxed.gpu.s32 [%0], 1;" :: "l"(f) : "memory")
#define RELAXED_IN_BLOCK(f) asm volatile("st.relaxed.cta.s32 [%0], 1;" :: "l"(f) : "memory")
#define KERNEL extern "C" __global__ void k(int* data, int* flag, int* out, int* lock)
"""

TICKET = """KERNEL {
    __shared__ bool last;
    volatile int* part = data;
    part[blockIdx.x * 64 + threadIdx.x] = 1;
    BETWEEN
    if (threadIdx.x == 0) {
        __threadfence();
        last = atomicAdd(flag, 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0)
        for (int i = 0; i < gridDim.x * 64; i++) out[0] += READ[i];
}"""


@pytest.mark.parametrize(
    ("between", "read", "clean"),
    [
        ("__syncthreads();", "data", True),
        ("", "data", False),
        ("__threadfence();", "data", False),  # of each thread: but thread 0 has not waited for them
        ("__syncwarp();", "data", False),  # the second warp is not waited for
        ("", "part", True),  # volatile is strong: a stale value, but no race
    ],
)
def test_thread_0_hands_on_what_its_block_did_before_a_barrier_and_no_more(between, read, clean):
    report = launch(TICKET.replace("BETWEEN", between).replace("READ", read), 4, 64)
    assert (report.races == []) is clean, [r.message for r in report.races]


NEAR = """{
    __shared__ int lock[1], flag[1], data[1];
    if (threadIdx.x == 0) lock[0] = flag[0] = data[0] = 0;
    __syncthreads();
"""
FLAG = """KERNEL {
    if (WRITER) { BEFORE data[0] = 5; AFTER SET; }
    else if (READER) { while (GET == 0); THEN out[0] = data[0]; }
}"""
FENCE, NARROW = "__threadfence();", "__threadfence_block();"
EXCHANGE, ADD = "atomicExch(flag, 1)", "atomicAdd(flag, 0)"
VOLATILE = "*(volatile int*)flag = 1", "*(volatile int*)flag"
TWO_BLOCKS = (2, 1, "blockIdx.x == 0", "blockIdx.x == 1")
TWO_WARPS = (1, 64, "threadIdx.x == 0", "threadIdx.x == 32")
TWO_LANES = (1, 32, "threadIdx.x == 0", "threadIdx.x == 7")


FLAGS = [
    (TWO_BLOCKS, "", FENCE, EXCHANGE, ADD, FENCE, True),
    (TWO_BLOCKS, "", "__threadfence_system();", EXCHANGE, ADD, FENCE, True),
    (TWO_BLOCKS, "", "", EXCHANGE, ADD, FENCE, False),
    (TWO_BLOCKS, "", FENCE, EXCHANGE, ADD, "", False),
    (TWO_BLOCKS, "", NARROW, EXCHANGE, ADD, NARROW, False),
    (TWO_BLOCKS, "", FENCE, EXCHANGE, ADD, NARROW, False),
    (TWO_BLOCKS, "", NARROW, EXCHANGE, ADD, FENCE, False),
    (TWO_BLOCKS, FENCE, "", EXCHANGE, ADD, FENCE, False),
    (TWO_BLOCKS, "", FENCE, *VOLATILE, FENCE, True),
    (TWO_BLOCKS, "", "", *VOLATILE, FENCE, False),
    (TWO_BLOCKS, "", FENCE, *VOLATILE, "", False),
    (TWO_BLOCKS, "", FENCE, "flag[0] = 1", VOLATILE[1], FENCE, False),  # a weak store of the flag
    (TWO_BLOCKS, "", FENCE, "RELAXED(flag)", "relaxed(flag)", FENCE, True),
    (TWO_BLOCKS, "", FENCE, "RELAXED_IN_BLOCK(flag)", "relaxed_in_block(flag)", FENCE, False),
    (TWO_BLOCKS, "", "", "RELEASE(flag)", "acquired(flag)", "", True),
    (TWO_BLOCKS, "", "", "RELAXED(flag)", "acquired(flag)", "", False),
    (TWO_BLOCKS, "", "", "RELEASE(flag)", "relaxed(flag)", "", False),
    (TWO_BLOCKS, "", "", "RELEASE(flag)", ADD, FENCE, True),
    (TWO_WARPS, "", FENCE, EXCHANGE, ADD, FENCE, True),
    (TWO_WARPS, "", NARROW, EXCHANGE, ADD, NARROW, True),
    (TWO_WARPS, "", NARROW, *VOLATILE, NARROW, True),
    (TWO_WARPS, "", NARROW, "RELAXED_IN_BLOCK(flag)", "relaxed_in_block(flag)", NARROW, True),
    (TWO_WARPS, "", "", EXCHANGE, ADD, NARROW, False),
    (TWO_WARPS, "", NARROW, EXCHANGE, ADD, "", False),
    (TWO_WARPS, NARROW, "", EXCHANGE, ADD, NARROW, False),
    (TWO_LANES, "", NARROW, EXCHANGE, ADD, NARROW, True),
    (TWO_LANES, "", "", EXCHANGE, ADD, NARROW, False),
]


@pytest.mark.parametrize(
    ("where", "before", "after", "store", "load", "then", "clean", "shared"),
    [(*flag, shared) for flag in FLAGS for shared in (False, True) if not (shared and flag[0] is TWO_BLOCKS)],
)
def test_a_flag_hands_data_on_where_both_sides_have_fences_wide_enough(
    where, before, after, store, load, then, clean, shared
):
    grid, block, writer, reader = where
    source = FLAG.replace("WRITER", writer).replace("READER", reader).replace("GET", load)
    source = source.replace("BEFORE", before).replace("AFTER", after).replace("THEN", then)
    source = source.replace("SET", store)
    if shared:
        source = source.replace("KERNEL {", "KERNEL {" + NEAR) + "}"
    report = launch(source, grid, block)
    assert (report.races == []) is clean, [r.message for r in report.races]


ATOMIC_REF = """#include <cuda/atomic>
KERNEL {
    cuda::atomic_ref<int, cuda::thread_scope_device> f(*flag);
    if (blockIdx.x == 0) { data[0] = 5; f.store(1, cuda::memory_order_STORE); }
    else { while (f.load(cuda::memory_order_LOAD) == 0); out[0] = data[0]; }
}"""


@needs_nvrtc
@pytest.mark.parametrize(
    ("store", "load", "clean"),
    [("release", "acquire", True), ("seq_cst", "seq_cst", True), ("relaxed", "relaxed", False)],
)
def test_an_atomic_ref_hands_data_on_by_its_memory_order(store, load, clean):
    report = launch(ATOMIC_REF.replace("STORE", store).replace("LOAD", load), 2, 1)
    assert (report.races == []) is clean, [r.message for r in report.races]


SPIN = """KERNEL {
    if (WHO) {
        while (atomicCAS(lock, 0, 1) != 0);
        FENCE
        data[0] = data[0] + 1;
        FENCE
        atomicExch(lock, 0);
    }
}"""
DONE = """KERNEL {
    bool done = !(WHO);
    while (!done) {
        if (atomicCAS(lock, 0, 1) == 0) {
            FENCE
            data[0] = data[0] + 1;
            FENCE
            atomicExch(lock, 0);
            done = true;
        }
    }
}"""


@pytest.mark.parametrize(
    ("who", "grid", "block"),
    [("threadIdx.x % 32 == 0", 1, 64), ("true", 1, 8), ("threadIdx.x % 8 == 0", 1, 64), ("true", 2, 4)],
)
@pytest.mark.parametrize("idiom", [SPIN, DONE])
@pytest.mark.parametrize(
    ("shared", "fence", "clean"),
    [(False, FENCE, True), (True, NARROW, True), (False, "", False), (True, "", False)],
)
def test_a_fenced_lock_orders_the_threads_of_one_block_too(who, grid, block, idiom, shared, fence, clean):
    source = idiom.replace("WHO", who).replace("FENCE", fence)
    if shared:
        source = source.replace("KERNEL {", "KERNEL {" + NEAR) + "}"
    report = launch(source, grid, block)
    assert (report.races == []) is clean, [r.message for r in report.races]


HALF_FENCED = """KERNEL {
    while (atomicCAS(lock, 0, 1) != 0);
    FIRST
    data[0] = data[0] + 1;
    SECOND
    atomicExch(lock, 0);
}"""


@pytest.mark.parametrize(("first", "second"), [(FENCE, ""), ("", FENCE)])
@pytest.mark.parametrize(("grid", "block"), [(3, 1), (1, 3)])
def test_a_lock_with_a_fence_on_one_side_only_races(first, second, grid, block):
    assert launch(HALF_FENCED.replace("FIRST", first).replace("SECOND", second), grid, block).races


GRID_BARRIER = """KERNEL {
    if (threadIdx.x == 63) data[blockIdx.x] = blockIdx.x + 1;
    FIRST
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(flag, 1);
        while (atomicAdd(flag, 0) < gridDim.x);
        __threadfence();
    }
    SECOND
    if (threadIdx.x == 40) for (int i = 0; i < gridDim.x; i++) out[8 + blockIdx.x] += data[i];
}"""


@pytest.mark.parametrize(
    ("first", "second", "clean"),
    [
        ("__syncthreads();", "__syncthreads();", True),
        ("", "__syncthreads();", False),
        ("__syncthreads();", "", False),
    ],
)
def test_a_grid_barrier_by_hand_needs_the_blocks_barrier_on_both_sides(first, second, clean):
    report = launch(GRID_BARRIER.replace("FIRST", first).replace("SECOND", second), 4, 64)
    assert (report.races == []) is clean, [r.message for r in report.races]


def test_a_warp_is_joined_by_its_syncwarp():
    source = """KERNEL {
        if (blockIdx.x == 0) {
            data[threadIdx.x] = 1;
            SYNC
            if (threadIdx.x == 0) { __threadfence(); atomicExch(flag, 1); }
        } else {
            if (threadIdx.x == 0) { while (atomicAdd(flag, 0) == 0); __threadfence(); }
            SYNC
            out[threadIdx.x] = data[31 - threadIdx.x];
        }
    }"""
    assert launch(source.replace("SYNC", "__syncwarp();"), 2, 32).races == []
    assert launch(source.replace("SYNC", ""), 2, 32).races


def test_volatile_accesses_of_one_warp_to_shared_memory_race_as_before_a_syncwarp():
    source = """KERNEL {
        volatile __shared__ int s[48];
        s[threadIdx.x] = threadIdx.x;
        if (threadIdx.x < 16) s[threadIdx.x + 32] = 0;
        SYNC
        out[threadIdx.x] = s[threadIdx.x + 16];
    }"""
    assert launch(source.replace("SYNC", "__syncwarp();"), 1, 32).races == []
    assert launch(source.replace("SYNC", ""), 1, 32).races


@pytest.mark.parametrize(
    ("source", "grid", "block"),
    [
        ("KERNEL { float* x = (float*)data; x[threadIdx.x] += expf(x[0]) + 7; }", 1, 32),
        ("KERNEL { float* x = (float*)data; x[threadIdx.x] += expf(x[0]) + 7; }", 1, 64),
        ("KERNEL { int v = data[0]; out[threadIdx.x + 8] = v; if (threadIdx.x == 31) data[0] = 1; }", 1, 32),
        ("KERNEL { int v = data[0]; __syncthreads(); if (threadIdx.x == 63) data[0] = v; }", 2, 64),
        (  # the first block reads, then the second, whose thread writes after its barrier
            "KERNEL { if (data[0] == 9) out[0] = 1; __syncthreads();"
            " if (blockIdx.x == 1 && threadIdx.x == 31) data[0] = 1; }",
            2,
            32,
        ),
    ],
)
def test_a_race_names_two_threads(source, grid, block):
    races = launch(source, grid, block).races
    assert races
    for race in races:
        assert (race.blocks[0], race.threads[0]) != (race.blocks[1], race.threads[1])


def test_readers_that_took_turns_under_a_lock_do_not_race_with_the_last_of_them():
    source = """KERNEL {
        if (threadIdx.x == 0) {
            while (atomicCAS(lock, 0, 1) != 0);
            FENCE
            int v = data[0];
            if (v == 0) out[blockIdx.x + 4] = data[1];
            if (atomicAdd(flag, 1) == gridDim.x - 1) data[0] = 1;
            FENCE
            atomicExch(lock, 0);
        }
    }"""
    assert launch(source.replace("FENCE", FENCE), 3, 32).races == []
    assert launch(source.replace("FENCE", ""), 3, 32).races


def test_one_value_written_by_all_in_every_pass_of_a_loop_is_no_race_and_another_value_is():
    source = """extern "C" __global__ void k(int* y, int n) {
    for (int i = 0; i < n; ++i) {
        if (threadIdx.x != 3) y[0] = VALUE;
        asm volatile("" ::: "memory");
    }
}"""
    for value, kinds in (("1", []), ("i", ["write-write"]), ("i / 2", ["write-write"])):
        report = CudaKernel(source.replace("VALUE", value))[2, 64](np.zeros(1, np.int32), 4)
        assert [r.kind for r in report.races] == kinds, value
        assert [r.lines for r in report.same_value_writes] == [(3, 3)]


def test_a_value_that_another_thread_changed_in_between_is_a_race_though_it_was_written_before():
    source = """extern "C" __global__ void k(double* y) {
    if (threadIdx.x == 0) y[0] = 1;
    asm volatile("" ::: "memory");
    if (threadIdx.x == 1) y[0] = 2;
    asm volatile("" ::: "memory");
    if (threadIdx.x == 2) y[0] = 1;
}"""
    report = CudaKernel(source)[1, 32](np.zeros(1))
    assert [(r.kind, r.lines) for r in report.races] == [("write-write", (2, 4)), ("write-write", (4, 6))]
