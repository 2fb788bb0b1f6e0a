"""Part 1, memory: small traces counted by hand, and products with whole numbers."""

import numpy as np
import pytest

from autograder.compare import close


@pytest.mark.question("q1a")
@pytest.mark.points(2)
def test_a_line_is_fetched_once_while_it_stays(student):
    """Words of a line that is there cost nothing"""
    for addresses, line, capacity, misses in [
        ([0, 1, 8, 0], 8, 1, 3),
        (list(range(32)), 8, 4, 4),
        ([0, 9, 18, 27] * 3, 9, 4, 4),
        ([5, 5, 5], 1, 1, 1),
    ]:
        close(student.count_misses(addresses, line, capacity), misses, input=(addresses, line, capacity))


@pytest.mark.question("q1a")
@pytest.mark.points(2)
def test_the_line_unused_for_longest_goes(student):
    """A hit makes a line young again; the line unused for longest goes"""
    for addresses, capacity, misses in [
        ([0, 1, 2, 0, 3, 0], 3, 4),  # 3 drops line 1, since 0 was used after it
        ([0, 1, 0, 2, 0, 1], 2, 4),  # 2 drops line 1, then 1 drops line 2
        ([0, 1, 2, 3] * 3, 3, 12),  # a cycle one line too long never hits
    ]:
        given = [4 * a for a in addresses]
        close(student.count_misses(given, 4, capacity), misses, input=(given, 4, capacity))


@pytest.mark.question("q1b")
@pytest.mark.points(2)
def test_the_first_steps_of_three_loop_orders(student):
    """A 2-by-2 product in three loop orders, word by word"""
    steps = {
        "ijk": [0, 4, 8, 1, 6, 8, 0, 5, 9, 1, 7, 9, 2, 4, 10, 3, 6, 10, 2, 5, 11, 3, 7, 11],
        "ikj": [0, 4, 8, 0, 5, 9, 1, 6, 8, 1, 7, 9, 2, 4, 10, 2, 5, 11, 3, 6, 10, 3, 7, 11],
        "jki": [0, 4, 8, 2, 4, 10, 1, 6, 8, 3, 6, 10, 0, 5, 9, 2, 5, 11, 1, 7, 9, 3, 7, 11],
    }
    for order, expected in steps.items():
        close(student.matmul_trace(2, order, 2), np.array(expected), input=(2, order, 2))


@pytest.mark.question("q1b")
@pytest.mark.points(1)
def test_a_tile_is_finished_before_the_next_begins(student):
    """Tiles: every step once, and a tile's steps stay together"""
    given = student.matmul_trace(4, "ijk", 2)
    assert given is not None, "matmul_trace returned None (is there a return?)"
    assert np.shape(given) == (192,), f"192 addresses are asked for, got shape {np.shape(given)}"
    trace = np.asarray(given).reshape(-1, 3)
    assert len(np.unique(trace, axis=0)) == 64, "each of the 64 steps stands once in the trace"
    row, column, inner = trace[:, 2] // 4 % 4, trace[:, 2] % 4, trace[:, 0] % 4
    for step, (i, j, k) in enumerate(zip(row.tolist(), column.tolist(), inner.tolist(), strict=True)):
        here, due = (i // 2, j // 2, k // 2), (step // 32, step // 16 % 2, step // 8 % 2)
        assert here == due, (
            f'matmul_trace(4, "ijk", 2): step {step} (the first is 0) is i={i}, j={j}, k={k}, in tile '
            f"{here} of i, j, k; the 8 steps of tile {due} are not all done"
        )


@pytest.mark.question("q1c")
@pytest.mark.points(2)
def test_the_product_is_right_where_tiles_do_not_divide(student, rng):
    """The product, for tiles that divide the shape and tiles that do not"""
    for (n, m, p), tile in [((4, 4, 4), 2), ((5, 7, 3), 2), ((3, 8, 5), 4)]:
        a = rng.integers(-4, 5, (n, m)).astype(float)
        b = rng.integers(-4, 5, (m, p)).astype(float)
        got = student.blocked_matmul(a, b, tile)
        assert got is not None, "blocked_matmul returned None (is there a return?)"
        assert np.shape(got) == (n, p), (
            f"a product of shapes {(n, m)} and {(m, p)} has shape {(n, p)}, got {np.shape(got)}"
        )
        # All products of a row and a column at once, summed: no tile and no product of matrices.
        close(got, (a[:, :, None] * b[None, :, :]).sum(axis=1), atol=1e-9, input=(a, b, tile))


@pytest.mark.question("q1c")
@pytest.mark.points(1)
def test_the_dtype_is_kept(student):
    """float32 in, float32 out; whole numbers stay whole"""
    for dtype in ("float32", "int64"):
        a = np.arange(6, dtype=dtype).reshape(2, 3)
        got = student.blocked_matmul(a, a.T.copy(), 2)
        assert getattr(got, "dtype", None) == dtype, (
            f"expected dtype {dtype}, got {getattr(got, 'dtype', type(got))}"
        )
        close(got, np.array([[5, 14], [14, 50]], dtype), input=(a, a.T, 2))


@pytest.mark.question("q1c")
@pytest.mark.points(1)
def test_every_product_of_tiles_goes_through_multiply(student):
    """Tiles go through multiply, none larger than asked for"""
    seen = []

    def multiply(left, right):
        for given in (left, right):
            assert isinstance(given, np.ndarray), f"multiply takes two arrays, got a {type(given).__name__}"
        seen.append((*left.shape, *right.shape))
        return 2 * (left @ right)  # doubled, so that a product made elsewhere shows

    got = student.blocked_matmul(np.ones((4, 4)), np.ones((4, 4)), 2, multiply)
    assert got is not None, "blocked_matmul returned None (is there a return?)"
    assert seen, "the multiplication did not go through `multiply`: it was never called"
    assert not np.any(np.asarray(got) == 4), "a multiplication did not go through `multiply`"
    close(got, np.full((4, 4), 8.0))
    assert max(max(shape) for shape in seen) <= 2, f"with tile 2 multiply was given shapes {seen[0]}"


@pytest.mark.question("q1d")
@pytest.mark.points(1)
def test_misses_of_a_tile_that_fits(student):
    """The formula, against three counts of a simulated cache"""
    for n, tile, line, misses in [(32, 8, 8, 1536), (32, 16, 8, 768), (24, 12, 4, 864)]:
        close(student.tile_misses(n, tile, line), misses, input=(n, tile, line))


@pytest.mark.question("q1d")
@pytest.mark.points(2)
def test_the_largest_tile_that_fits(student):
    """The tile for four caches, one of which is too small for any"""
    for n, line, capacity, tile in [(32, 8, 64, 16), (32, 8, 38, 8), (48, 8, 82, 24), (32, 8, 11, None)]:
        close(student.choose_tile(n, line, capacity), tile, input=(n, line, capacity))
