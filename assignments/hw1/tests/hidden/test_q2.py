"""Part 2, roofline: other machines, shapes and sizes."""

import numpy as np
import pytest

from autograder.compare import close


@pytest.mark.question("q2a")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_the_roof_keeps_shape_and_continues_at_the_ridge(student, rng):
    """Arrays of two axes on random machines; both sides meet at the ridge"""
    for _ in range(4):
        peak, bandwidth = rng.uniform(1e9, 1e13), rng.uniform(1e8, 1e12)
        intensity = rng.uniform(0, 3 * peak / bandwidth, (3, 5))
        expected = np.where(intensity * bandwidth < peak, intensity * bandwidth, peak)
        close(student.attainable(intensity, peak, bandwidth), expected, rtol=1e-9)
        ridge = student.ridge_point(peak, bandwidth)
        close(student.attainable(ridge, peak, bandwidth), peak, rtol=1e-9)
        close(student.attainable(ridge / 2, peak, bandwidth), peak / 2, rtol=1e-9)


@pytest.mark.question("q2b")
@pytest.mark.points(2)
@pytest.mark.hidden
def test_work_counted_one_by_one(student):
    """Other sizes and number formats, counted one operation at a time"""
    for n, itemsize in [(1, 4), (5, 2), (7, 8)]:
        pairs = {
            "axpy": n,
            "matvec": sum(1 for _ in np.ndindex(n, n)),
            "matmul": sum(1 for _ in np.ndindex(n, n, n)),
        }
        arrays = {"axpy": [(n,)] * 3, "matvec": [(n, n), (n,), (n,)], "matmul": [(n, n)] * 3}
        for operation, count in pairs.items():
            moved = itemsize * sum(np.zeros(shape).size for shape in arrays[operation])
            close(student.work(operation, n, itemsize), (2 * count, moved))


@pytest.mark.question("q2c")
@pytest.mark.points(3)
@pytest.mark.hidden
def test_the_tile_is_enough_and_the_next_smaller_is_not(student, rng):
    """Tiles that reach the ridge exactly, a tile of n; random machines: no smaller divisor is enough"""
    # 2nt / (2n + t) / itemsize is a number without rounding here: 1 for tile 5, 3/4 for tile 7.
    for n, itemsize, peak, bandwidth, tile in [
        (10, 4, 1e9, 1e9, 5),
        (21, 8, 3e9, 4e9, 7),
        (97, 4, 16e9, 1e9, 97),
        (97, 4, 17e9, 1e9, None),
    ]:
        close(student.compute_bound_tile(n, itemsize, peak, bandwidth), tile)
    for n in (30, 64, 97, 360):
        for itemsize in (1, 4, 8):
            bandwidth = float(rng.uniform(1e9, 1e12))
            peak = bandwidth * float(rng.uniform(0.02, 0.9)) * n / itemsize
            enough = [
                t
                for t in range(1, n + 1)
                if n % t == 0 and 2 * n**3 / ((2 * n**3 / t + n**2) * itemsize) >= peak / bandwidth
            ]
            close(student.compute_bound_tile(n, itemsize, peak, bandwidth), min(enough, default=None))
