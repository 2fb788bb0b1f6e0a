"""Checks of lab 08a: the learner's kernels on the simulator, held to NumPy's sums, to the fewest sectors, no races."""

import numpy as np
import pytest

from autograder.compare import close
from mlsys_lab.kernels import examined

THREADS = 256


def whole(rng, n):
    """Whole numbers, so that every order of adding gives the same sum."""
    return rng.integers(-50, 100, n).astype(np.float32)


def fewest(n):
    return -(-n // 8)  # a sector holds 8 floats


def blocks_of(n, threads):
    return -(-n // threads)


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_every_element_is_squared(student, rng):
    """As many threads as elements: each element is squared, in one block or in several"""
    for n, grid, block in ((64, 1, 64), (256, 1, 256), (96, 3, 32), (1024, 8, 128)):
        x, out = rng.normal(size=n).astype(np.float32), np.zeros(n, np.float32)
        examined(student.square(), "square", grid, block, x, out, n)
        close(out, x * x, rtol=1e-6, input={"n": n, "grid": grid, "block": block})


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_threads_without_an_element_stay_away(student, rng):
    """More threads than elements: nothing is read or written beyond n, and each warp reads 4 sectors"""
    for n, grid, block in ((1000, 4, 256), (33, 1, 64), (1, 2, 32)):
        x, out = rng.normal(size=n).astype(np.float32), np.zeros(n, np.float32)
        report = examined(student.square(), "square", grid, block, x, out, n)
        close(out, x * x, rtol=1e-6, input={"n": n, "grid": grid, "block": block})
        sectors = report.global_loads.sectors
        assert sectors <= fewest(n), f"reading x touched {sectors} sectors, {fewest(n)} are enough for {n}"


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_every_element_is_in_one_part(student, rng):
    """The parts of all threads add up to the whole, for more and for fewer threads than elements"""
    for n, grid, block in ((4096, 2, 64), (1000, 1, 32), (999, 3, 96), (20, 1, 64)):
        x, out = whole(rng, n), np.full(grid * block, 7, np.float32)
        examined(student.stride_sum(), "stride_sum", grid, block, x, out, n)
        close(float(out.sum()), float(x.sum()), input={"n": n, "grid": grid, "block": block})


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_each_sector_is_asked_for_once(student, rng):
    """The requests for x touch as few sectors as its bytes fill"""
    for n, grid, block in ((8192, 2, 128), (1000, 1, 64)):
        x, out = whole(rng, n), np.zeros(grid * block, np.float32)
        sectors = examined(student.stride_sum(), "stride_sum", grid, block, x, out, n).global_loads.sectors
        assert sectors <= fewest(n), (
            f"reading {n} elements touched {sectors} sectors, {fewest(n)} are enough: "
            "the 32 threads of a warp should read neighbours at the same time"
        )


def block_sums(x, threads):
    padded = np.zeros(blocks_of(len(x), threads) * threads, np.float32)
    padded[: len(x)] = x
    return padded.reshape(-1, threads).sum(1)


def check_blocks(student_source, name, rng, cases, races):
    """The report of each case, its sums compared."""
    for n, threads in cases:
        x = whole(rng, n)
        out = np.full(blocks_of(n, threads), 7, np.float32)
        report = examined(student_source, name, len(out), threads, x, out, n, races=races)
        close(out, block_sums(x, threads), input={"n": n, "threads per block": threads})
        yield n, threads, report


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_each_block_adds_its_own_elements(student, rng):
    """Each block writes the sum of its elements, also where the last block is not full"""
    for n, _, report in check_blocks(
        student.block_sum(), "block_sum", rng, ((1024, 256), (1000, 64), (70, 48)), races=False
    ):
        sectors = report.global_loads.sectors
        assert sectors <= fewest(n), (
            f"reading {n} elements touched {sectors} sectors of global memory, {fewest(n)} are enough: "
            "each thread brings one element into shared memory"
        )


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_nobody_reads_before_it_is_written(student, rng):
    """No race and nothing read unwritten, though the sums may come out right without"""
    for _ in check_blocks(student.block_sum(), "block_sum", rng, ((1024, 256), (1000, 64)), races=True):
        pass


@pytest.mark.question("q4")
@pytest.mark.points(1)
def test_the_tree_adds_up_without_a_race(student, rng):
    """Each block writes the sum of its elements, for blocks of 32 to 256 threads, and nothing races"""
    cases = ((1024, 256), (1000, 128), (70, 64), (64, 32))
    for _ in check_blocks(student.tree_sum(), "tree_sum", rng, cases, races=True):
        pass


@pytest.mark.question("q4")
@pytest.mark.points(1)
def test_the_tree_takes_few_wavefronts_and_no_conflict(student, rng):
    """Blocks of 256: at most 64 wavefronts of shared memory each, and no bank conflict"""
    for n, threads, report in check_blocks(student.tree_sum(), "tree_sum", rng, ((1024, 256),), races=True):
        shared, blocks = report.shared, blocks_of(n, threads)
        assert shared.conflicts == 0, (
            f"{shared.conflicts // blocks} wavefronts of each block are bank conflicts: "
            "threads that work at the same time should use neighbouring elements"
        )
        assert shared.wavefronts <= 64 * blocks, (
            f"{shared.wavefronts // blocks} wavefronts of shared memory in each block, 64 are enough: "
            "half of the threads should stop at each step, and whole warps of them"
        )


@pytest.mark.question("q5")
@pytest.mark.points(1)
def test_the_whole_array_is_summed(student, rng):
    """One launch sums it all, for large and small grids, and nothing races"""
    for n, grid, block in ((4096, 16, 256), (5000, 2, 64), (1000, 3, 96), (40, 2, 64)):
        x, out = whole(rng, n), np.zeros(1, np.float32)
        examined(student.grid_sum(), "grid_sum", grid, block, x, out, n)
        close(float(out[0]), float(x.sum()), input={"n": n, "grid": grid, "block": block})


@pytest.mark.question("q5")
@pytest.mark.points(1)
def test_a_warp_adds_to_the_result_once(student, rng):
    """At most one atomic addition a warp and 16 wavefronts a block, and each sector of x once"""
    n, grid = 16_384, 8
    x, out = whole(rng, n), np.zeros(1, np.float32)
    report = examined(student.grid_sum(), "grid_sum", grid, THREADS, x, out, n)
    close(float(out[0]), float(x.sum()), input={"n": n, "grid": grid, "block": THREADS})
    added, warps = report.global_stores.bytes // 4, grid * THREADS // 32
    assert added <= warps, f"{added} additions to the result by {warps} warps: one a warp is enough"
    sectors, shared = report.global_loads.sectors, report.shared.wavefronts
    assert sectors <= fewest(n), f"reading x touched {sectors} sectors, {fewest(n)} are enough"
    assert shared <= 16 * grid, f"{shared // grid} wavefronts of shared memory a block, 16 are enough"
