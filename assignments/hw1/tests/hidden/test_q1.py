"""Part 1, memory: random traces against reuse distances, products out of what `multiply` returned."""

import itertools
import math

import numpy as np
import pytest

from autograder.compare import close


def misses_by_reuse_distance(addresses, line, capacity):
    """An LRU cache misses where `capacity` other lines were used since the last use (Mattson, 1970)."""
    lines, misses = [int(a) // line for a in addresses], 0
    for now, number in enumerate(lines):
        before = [i for i in range(now) if lines[i] == number]
        misses += not before or len(set(lines[before[-1] + 1 : now])) >= capacity
    return misses


@pytest.mark.question("q1a")
@pytest.mark.points(2)
@pytest.mark.hidden
def test_random_traces_of_all_kinds(student, rng):
    """Random traces, as lists and as arrays, with lines and caches of many sizes"""
    close(student.count_misses([], 4, 2), 0)
    for line, capacity, words in [(1, 1, 4), (1, 5, 12), (3, 4, 40), (8, 2, 64), (16, 7, 400)]:
        addresses = rng.integers(0, words, 120)
        expected = misses_by_reuse_distance(addresses, line, capacity)
        close(student.count_misses(addresses, line, capacity), expected)
        close(student.count_misses(addresses.tolist(), line, capacity), expected)


@pytest.mark.question("q1b")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_all_loop_orders(student):
    """All six loop orders, untiled"""
    for n, order in itertools.product([1, 3], map("".join, itertools.permutations("ijk"))):
        steps = sorted(
            itertools.product(range(n), repeat=3),
            key=lambda ijk: [ijk["ijk".index(letter)] for letter in order],
        )
        expected = [w for i, j, k in steps for w in (i * n + k, n * n + k * n + j, 2 * n * n + i * n + j)]
        close(student.matmul_trace(n, order, n), np.array(expected))


@pytest.mark.question("q1b")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_tiles_that_do_not_divide(student):
    """Tiled loops in every order, where the tile does and does not divide the size"""
    for n, tile, order in [(4, 2, "kij"), (5, 2, "ikj"), (5, 3, "jki"), (3, 7, "kji")]:
        where = ["ijk".index(letter) for letter in order]
        steps = sorted(
            itertools.product(range(n), repeat=3),
            key=lambda ijk: ([ijk[w] // tile for w in where], [ijk[w] for w in where]),
        )
        expected = [w for i, j, k in steps for w in (i * n + k, n * n + k * n + j, 2 * n * n + i * n + j)]
        close(student.matmul_trace(n, order, tile), np.array(expected))


@pytest.mark.question("q1c")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_odd_shapes_and_mixed_dtypes(student, rng):
    """Single rows, empty sums, tiles of one and tiles larger than the matrix; the common dtype of two inputs"""
    for n, m, p, tile in [
        (1, 9, 1, 4),
        (6, 1, 5, 2),
        (3, 4, 2, 100),
        (7, 5, 6, 1),
        (2, 0, 3, 2),
        (11, 13, 3, 5),
    ]:
        a, b = rng.integers(-9, 10, (n, m)), rng.integers(-9, 10, (m, p))
        expected = [[sum(int(a[i, k]) * int(b[k, j]) for k in range(m)) for j in range(p)] for i in range(n)]
        got = student.blocked_matmul(a, b, tile)
        close(got, np.array(expected, dtype=np.int64).reshape(n, p))
    for left, right, kind in [("float32", "float64", "float64"), ("complex64", "float32", "complex64")]:
        a = rng.integers(-3, 4, (3, 3)).astype(left) * (1 + 2j if left.startswith("c") else 1)
        got = student.blocked_matmul(a.astype(left), np.eye(3, dtype=right), 2)
        assert getattr(got, "dtype", None) == kind
        close(got, a, atol=1e-6)


def recorder(rng, tile, calls):
    """A `multiply` that notes what it is given and what it returns: the product times a factor of its own."""

    def multiply(left, right):
        for given in (left, right):
            assert isinstance(given, np.ndarray)
            assert given.ndim == 2
            assert 1 <= min(given.shape) <= max(given.shape) <= tile
        # Another factor each time: a product that was made elsewhere is not what was returned here.
        returned = rng.uniform(1, 3) * (left @ right)
        calls.append((left.copy(), right.copy(), returned.copy()))
        return returned

    return multiply


def slices_of(tile, whole):
    """Where a tile stands in a matrix whose numbers are all different."""
    start = np.argwhere(whole == tile[0, 0])
    assert len(start) == 1
    place = tuple(slice(s, s + length) for s, length in zip(start[0].tolist(), tile.shape, strict=True))
    assert np.array_equal(whole[place], tile)
    return place


@pytest.mark.question("q1c")
@pytest.mark.points(2)
@pytest.mark.hidden
def test_the_result_is_what_multiply_returned(student, rng):
    """One product of two tiles for each pair, and the result is the sum of what `multiply` returned"""
    for n, m, p, tile in [(5, 7, 4, 3), (4, 6, 2, 2), (3, 2, 5, 4)]:
        a, b = rng.random((n, m)), rng.random((m, p))
        calls = []
        got = student.blocked_matmul(a, b, tile, recorder(rng, tile, calls))
        expected, covered = np.zeros((n, p)), np.zeros((n, m, p), dtype=int)
        for left, right, returned in calls:
            (rows, inner), (same, columns) = slices_of(left, a), slices_of(right, b)
            assert inner == same
            expected[rows, columns] += returned
            covered[rows, inner, columns] += 1
        assert np.all(covered == 1)
        assert len(calls) == math.prod(-(-size // tile) for size in (n, m, p))
        close(got, expected, rtol=1e-9)


@pytest.mark.question("q1d")
@pytest.mark.points(2)
@pytest.mark.hidden
def test_large_caches(student):
    """Tiles and misses of matrices too large to simulate"""
    # (n, line, capacity) -> tile by hand: t * t / line + 3 * t / line + 1 <= capacity, t divides n.
    for n, line, capacity, tile in [
        (1024, 8, 512, 32),  # 64: 512 + 24 + 1 > 512
        (1024, 8, 537, 64),
        (960, 16, 1024, 96),  # 595 lines; 112 does not divide 960, 160 needs 1631
        (64, 8, 10**9, 64),
        (36, 8, 1000, None),
        (40, 1, 5, 1),
        (40, 1, 11, 2),
    ]:
        close(student.choose_tile(n, line, capacity), tile)
    close(student.tile_misses(1024, 64, 8), 6_291_456)
    close(student.tile_misses(960, 96, 16), 1_728_000)
