"""Part 2, roofline: points on a machine of 100 GFLOP/s and 25 GB/s, and work counted by hand."""

import numpy as np
import pytest

from autograder.compare import close


@pytest.mark.question("q2a")
@pytest.mark.points(1)
def test_the_ridge_is_where_both_limits_meet(student):
    """The ridge point of two machines"""
    close(student.ridge_point(100e9, 25e9), 4.0, rtol=1e-12, input=(100e9, 25e9))
    close(student.ridge_point(3e12, 2e12), 1.5, rtol=1e-12, input=(3e12, 2e12))


@pytest.mark.question("q2a")
@pytest.mark.points(2)
def test_the_roof_left_and_right_of_the_ridge(student):
    """The roof: bandwidth on the left, peak on the right, arrays too"""
    intensity = np.array([0.25, 1.0, 4.0, 16.0])
    close(student.attainable(1.0, 100e9, 25e9), 25e9, rtol=1e-12, input=1.0)
    close(student.attainable(intensity, 100e9, 25e9), np.array([6.25e9, 25e9, 100e9, 100e9]), rtol=1e-12)


@pytest.mark.question("q2b")
@pytest.mark.points(2)
def test_work_of_small_operations(student):
    """FLOPs and bytes of each operation on four or fewer numbers"""
    for operation, n, itemsize, flops, moved in [
        ("axpy", 4, 8, 8, 96),
        ("matvec", 3, 4, 18, 60),
        ("matmul", 2, 8, 16, 96),
    ]:
        got = student.work(operation, n, itemsize)
        assert isinstance(got, tuple | list), f"work gives (flops, bytes), got {got!r}"
        assert len(got) == 2, f"work gives (flops, bytes), got {len(got)} things"
        # Two kinds of number: named, since one axis for both would say nothing.
        named = {"flops": got[0], "bytes": got[1]}
        close(named, {"flops": flops, "bytes": moved}, input=(operation, n, itemsize))


@pytest.mark.question("q2c")
@pytest.mark.points(2)
def test_the_smallest_tile_that_reaches_the_ridge(student):
    """The tile on four machines: one needs a tile of n, one is out of reach"""
    for n, itemsize, peak, bandwidth, tile in [
        (64, 8, 100e9, 50e9, 32),
        (48, 4, 9e9, 6e9, 8),
        (16, 8, 1e9, 1e9, 16),
        (64, 8, 100e9, 10e9, None),
    ]:
        got = student.compute_bound_tile(n, itemsize, peak, bandwidth)
        close(got, tile, input=(n, itemsize, peak, bandwidth))
