"""Barriers that vote, partial `__syncwarp(mask)`, and lanes that change one word of shared memory."""

from __future__ import annotations

import numpy as np
import pytest

from mlsys_lab.kernels import CudaKernel

VOTES = """extern "C" __global__ void k(const int* x, int* y) {
    int t = threadIdx.x, n = gridDim.x * blockDim.x, i = blockIdx.x * blockDim.x + t;
    for (int round = 0; round < 3; ++round) {
        y[(3 * round + 0) * n + i] = __syncthreads_count(x[i] > round);
        y[(3 * round + 1) * n + i] = __syncthreads_and(x[i] > round);
        y[(3 * round + 2) * n + i] = __syncthreads_or(x[i] > round);
    }
}"""


@pytest.mark.parametrize("threads", [32, 70, 256])
def test_barriers_that_vote_count_each_block_for_itself(threads):
    x = np.random.default_rng(0).integers(0, 4, (5, threads)).astype(np.int32)
    x[1], x[2] = 0, 3
    y = np.zeros((3, 3, 5, threads), np.int32)
    report = CudaKernel(VOTES)[5, threads](x, y)
    for round_ in range(3):
        for out, f in zip(y[round_], (np.sum, np.all, np.any), strict=True):
            np.testing.assert_array_equal(out, np.repeat(f(x > round_, axis=1)[:, None], threads, 1))
    assert report.errors == report.races == []
    assert report.classes["barrier"] == 9 * 5 * -(-threads // 32)


def test_a_vote_counts_threads_that_have_returned_for_none():
    source = """extern "C" __global__ void k(int* y) {
        int t = threadIdx.x;
        if (t % 3 == 0) return;
        y[t] = 100 * __syncthreads_count(t % 2) + 10 * __syncthreads_and(t % 3) + __syncthreads_or(t == 5);
    }"""
    y = np.zeros(64, np.int32)
    report = CudaKernel(source)[1, 64](y)
    alive = [t for t in range(64) if t % 3]
    odd = sum(t % 2 for t in alive)
    assert y.tolist() == [100 * odd + 11 if t % 3 else 0 for t in range(64)]
    assert report.errors == []


def test_a_vote_orders_shared_memory_as_a_barrier_does():
    source = """extern "C" __global__ void k(int* y) {
        __shared__ int s[64];
        s[threadIdx.x] = threadIdx.x;
        int n = VOTE;
        y[threadIdx.x] = s[63 - threadIdx.x] + n;
    }"""
    y = np.zeros(64, np.int32)
    clean = CudaKernel(source.replace("VOTE", "__syncthreads_count(1)"))[1, 64](y)
    assert y.tolist() == [63 - t + 64 for t in range(64)]
    assert clean.races == clean.errors == []
    assert CudaKernel(source.replace("VOTE", "64"))[1, 64](y).races


SOME = """extern "C" __global__ void k(int* y, unsigned low, unsigned high) {
    __shared__ int s[64];
    int t = threadIdx.x, lane = t % 32;
    s[t] = t;
    if (lane < 16) __syncwarp(LOW); else __syncwarp(HIGH);
    y[t] = s[t ^ PARTNER];
}"""


@pytest.mark.parametrize("masks", [("0x0000ffffu", "0xffff0000u"), ("low", "high")])
@pytest.mark.parametrize(("partner", "races"), [(1, False), (8, False), (16, True)])
def test_a_partial_syncwarp_orders_the_lanes_of_its_mask_alone(masks, partner, races):
    source = SOME.replace("LOW", masks[0]).replace("HIGH", masks[1]).replace("PARTNER", str(partner))
    y = np.zeros(64, np.int32)
    report = CudaKernel(source)[1, 64](y, 0xFFFF, 0xFFFF0000)
    assert y.tolist() == [t ^ partner for t in range(64)]
    assert [(r.kind, r.lines) for r in report.races] == ([("read-write", (4, 6))] if races else [])
    assert report.errors == []


def test_what_one_part_of_a_warp_knows_reaches_the_other_through_a_lane_of_both():
    source = """extern "C" __global__ void k(int* y) {
        __shared__ int s[32];
        int t = threadIdx.x;
        s[t] = t;
        if (t < 16) __syncwarp(0x0000ffffu);
        if (t >= FIRST) __syncwarp(MASK);
        if (t == 31) y[0] = s[3];
    }"""
    chained = source.replace("FIRST", "15").replace("MASK", "0xffff8000u")  # lane 15 is in both
    assert CudaKernel(chained)[1, 32](np.zeros(1, np.int32)).races == []
    apart = source.replace("FIRST", "16").replace("MASK", "0xffff0000u")
    assert [r.lines for r in CudaKernel(apart)[1, 32](np.zeros(1, np.int32)).races] == [(4, 7)]


def test_a_tree_within_tiles_of_16_lanes_is_clean_and_races_a_step_too_far():
    source = """extern "C" __global__ void k(int* y) {
        __shared__ int s[64];
        int t = threadIdx.x;
        unsigned mine = 0xffffu << (t & 16);
        s[t] = t;
        for (int k = FIRST; k > 0; k /= 2) {
            __syncwarp(mine);
            int other = s[t ^ k];
            __syncwarp(mine);
            s[t] += other;
        }
        y[t] = s[t];
    }"""
    y = np.zeros(64, np.int32)
    assert CudaKernel(source.replace("FIRST", "8"))[1, 64](y).races == []
    assert y.tolist() == np.repeat(np.arange(64).reshape(4, 16).sum(1), 16).tolist()
    assert CudaKernel(source.replace("FIRST", "16"))[1, 64](y).races != []


ATOMIC = """extern "C" __global__ void k(unsigned KIND* y) {
    __shared__ unsigned KIND s[1024];
    int t = threadIdx.x;
    for (int i = t; i < 1024; i += 32) s[i] = 0;
    __syncthreads();
    if (LANES) OPERATION(&s[INDEX], 1);
    __syncthreads();
    y[t] = s[t];
}"""


@pytest.mark.parametrize(
    ("index", "lanes", "kind", "wavefronts", "ideal"),
    [
        ("t", "true", "", 1, 1),  # a bank each
        ("0", "true", "", 32, 1),  # all lanes at one word, one after the other
        ("t / 2", "true", "", 2, 1),
        ("t / 8", "true", "", 8, 1),
        ("t < 20 ? 0 : t", "true", "", 20, 1),  # 20 lanes at word 0, 12 at their own
        ("0", "t < 5", "", 5, 1),
        ("32 * t", "true", "", 32, 1),  # 32 words of one bank
        ("(t & 1) * 32", "true", "", 32, 1),  # two words of one bank, 16 lanes at each
        ("t", "true", "long long", 2, 2),  # 64 bits: half a warp at a time
        ("0", "true", "long long", 32, 2),
    ],
)
@pytest.mark.parametrize("operation", ["atomicAdd"])
def test_lanes_that_change_one_word_of_shared_memory_take_turns(
    index, lanes, kind, wavefronts, ideal, operation
):
    source = ATOMIC.replace("INDEX", index).replace("LANES", lanes).replace("KIND", kind)
    y = np.zeros(32, np.uint64 if kind else np.uint32)
    report = CudaKernel(source.replace("OPERATION", operation))[1, 32](y)
    line = report.lines[6].shared
    assert (line.requests, line.wavefronts, line.ideal) == (1, wavefronts, ideal)
    assert line.conflicts == wavefronts - ideal
    assert report.races == report.errors == []


def test_a_load_of_one_word_by_all_lanes_is_no_contention():
    source = ATOMIC.replace("if (LANES) OPERATION(&s[INDEX], 1);", "t += s[0];").replace("KIND", "")
    report = CudaKernel(source)[1, 32](np.zeros(32, np.uint32))
    assert (report.lines[6].shared.requests, report.lines[6].shared.wavefronts) == (1, 1)
