"""Part 1, rules: other shapes and dtypes, empty arrays, numbers without axes, NaN; sums written out."""

import itertools
import math

import numpy as np
import pytest

from autograder.compare import close


def same(got, expected, dtype, rtol=1e-9, atol=1e-9):
    assert getattr(got, "dtype", None) == np.dtype(dtype)
    close(got, np.asarray(expected), rtol=rtol, atol=atol)


def gathered(g, shape):
    """Each element of g added, one by one, where broadcasting took its number from."""
    places = np.broadcast_to(np.arange(math.prod(shape)).reshape(shape), g.shape)
    found = np.zeros(math.prod(shape))
    for place, value in zip(places.ravel().tolist(), g.ravel().tolist(), strict=True):
        found[place] += value
    return found.reshape(shape)


@pytest.mark.question("q1a")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_every_way_to_broadcast(student, rng):
    """Every choice of repeated axes of three, in both precisions"""
    for flags, front in itertools.product(itertools.product([1, 0], repeat=3), [(), (2,), (3, 1)]):
        shape = tuple(1 if flag else size for flag, size in zip(flags, (3, 2, 4), strict=True))
        g = rng.integers(-8, 9, (*front, 3, 2, 4))
        for dtype in ("float32", "float64"):
            same(student.unbroadcast(g.astype(dtype), shape), gathered(g, shape), dtype)


@pytest.mark.question("q1a")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_empty_arrays_and_single_numbers(student):
    """Axes of length 0, shapes without axes, nothing to do, NaN"""
    for stretched, shape in [((0, 3), (1, 3)), ((0, 3), (3,)), ((2, 0), (2, 1)), ((2, 0), (0,)), ((0,), ())]:
        same(student.unbroadcast(np.ones(stretched, np.float32), shape), np.zeros(shape), "float32")
    same(student.unbroadcast(np.array(2.5), ()), 2.5, "float64")
    same(student.unbroadcast(np.array([[4.0]]), (1, 1)), [[4.0]], "float64")
    same(student.unbroadcast(np.array([[4.0]]), (1,)), [4.0], "float64")
    same(student.unbroadcast(np.array([[1.0, np.nan], [2.0, 3.0]]), (2,)), [3.0, np.nan], "float64")


#: Derivatives for a and for b of one pair of numbers.
SLOPES = {
    "add": lambda a, b: (1.0, 1.0),
    "sub": lambda a, b: (1.0, -1.0),
    "mul": lambda a, b: (b, a),
    "div": lambda a, b: (1 / b, -a / (b * b)),
    "maximum": lambda a, b: (0.5, 0.5) if a == b else ((1.0, 0.0) if a > b else (0.0, 1.0)),
}


@pytest.mark.question("q1b")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_elementwise_rules_number_by_number(student, rng):
    """Five operations on shapes that broadcast in other ways, also empty ones and single numbers"""
    shapes = [((), (2, 3)), ((4, 1, 2), (3, 1)), ((0, 3), (3,)), ((1,), (1,)), ((), ()), ((2, 1), (1, 0))]
    for (left, right), name in itertools.product(shapes, SLOPES):
        kinds = ("float32", "float64") if left else ("float64", "float32")
        a = (rng.integers(1, 5, left) / 2).astype(kinds[0])
        b = (rng.integers(1, 5, right) / 2).astype(kinds[1])
        g = np.asarray(rng.integers(-4, 5, np.broadcast_shapes(left, right)), dtype=np.float64)
        wide = [np.broadcast_to(part, g.shape) for part in (a, b)]
        slopes = np.array([SLOPES[name](*p) for p in zip(*(w.ravel().tolist() for w in wide), strict=True)])
        slopes = slopes.reshape(*g.shape, 2) if slopes.size else np.zeros((*g.shape, 2))
        got = student.elementwise_vjp(name, g, a, b)
        assert len(got) == 2
        same(got[0], gathered(g * slopes[..., 0], left), kinds[0], rtol=1e-5, atol=1e-6)
        same(got[1], gathered(g * slopes[..., 1], right), kinds[1], rtol=1e-5, atol=1e-6)
    got = student.elementwise_vjp("add", np.array([np.nan, 1.0]), np.zeros(2), np.zeros(()))
    same(got[0], [np.nan, 1.0], "float64")
    same(got[1], np.nan, "float64")


@pytest.mark.question("q1b")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_nearly_equal_is_no_tie(student):
    """maximum of numbers that differ in their last digits only: the larger one gets all"""
    for size, gap, kind in [(1.0, 1e-9, "float64"), (-3e8, 1e-12, "float64"), (1e-12, 1e-3, "float64"), (2.0, 3e-7, "float32")]:
        a, b = (np.array([size, size * (1 + sign * gap), size], kind) for sign in (0, 1))
        g, below = np.array([2.0, 3.0, 5.0], kind), size > 0
        got = student.elementwise_vjp("maximum", g, a, b)
        same(got[0], [1.0, 0.0 if below else 3.0, 2.5], kind)
        same(got[1], [1.0, 3.0 if below else 0.0, 2.5], kind)


@pytest.mark.question("q1c")
@pytest.mark.points(2)
@pytest.mark.hidden
def test_products_of_many_batches(student, rng):
    """Batch axes that broadcast on both sides, empty ones, single rows; mixed precisions"""
    for left, right in [
        ((2, 1, 3, 4), (1, 5, 4, 2)),
        ((1, 3, 4), (6, 4, 2)),
        ((2, 3, 1, 2), (2, 4)),
        ((1, 1), (7, 1, 1)),
        ((0, 3, 4), (4, 2)),
        ((3, 0), (2, 0, 5)),
    ]:
        for kinds in (("float64", "float64"), ("float32", "float64"), ("float64", "float32")):
            a = rng.integers(-3, 4, left).astype(kinds[0])
            b = rng.integers(-3, 4, right).astype(kinds[1])
            batch = np.broadcast_shapes(left[:-2], right[:-2])
            g = rng.integers(-3, 4, (*batch, left[-2], right[-1])).astype("float64")
            terms_a = g[..., :, None, :] * b[..., None, :, :]  # n, k, m
            terms_b = a[..., :, :, None] * g[..., :, None, :]
            got = student.matmul_vjp(g, a, b)
            assert len(got) == 2
            same(got[0], gathered(terms_a.sum(axis=-1), left), kinds[0])
            same(got[1], gathered(terms_b.sum(axis=-3), right), kinds[1])


@pytest.mark.question("q1d")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_every_axis_of_three(student, rng):
    """All choices of axes, positive, negative and mixed, with and without keepdims, ties among the largest"""
    choices = [None, (), 0, 1, 2, -1, -3, (0, 1), (2, 0), (-1, 1), (0, 1, 2)]
    for axis, stay, operation in itertools.product(choices, (False, True), ("sum", "mean", "max")):
        dtype = "float32" if stay else "float64"
        x = rng.integers(0, 3, (2, 3, 4)).astype(dtype)
        places = range(3) if axis is None else [p % 3 for p in (axis if isinstance(axis, tuple) else (axis,))]
        result = np.zeros([1 if p in places else size for p, size in enumerate(x.shape)])
        g = rng.integers(1, 9, result.shape).astype(float)
        expected = np.zeros(x.shape)
        for spot in np.ndindex(*result.shape):
            group = tuple(slice(None) if p in places else spot[p] for p in range(3))
            block = x[group]
            part = {"sum": 1.0, "mean": 1.0 / block.size}.get(operation)
            part = (block == block.max()) / (block == block.max()).sum() if part is None else part
            expected[group] = g[spot] * part
        given = g if stay else g.reshape([s for p, s in enumerate(g.shape) if p not in places])
        same(student.reduce_vjp(operation, given, x, axis, stay), expected, dtype, rtol=1e-5, atol=1e-6)


@pytest.mark.question("q1d")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_reductions_of_nothing_and_of_one_number(student):
    """Empty arrays, arrays without axes, a NaN that comes in, numbers below zero"""
    same(student.reduce_vjp("sum", np.ones(3), np.zeros((0, 3)), 0), np.zeros((0, 3)), "float64")
    same(student.reduce_vjp("mean", np.ones(0), np.zeros((3, 0), np.float32), 0), np.zeros((3, 0)), "float32")
    same(student.reduce_vjp("sum", np.array(2.0), np.zeros((0, 0))), np.zeros((0, 0)), "float64")
    same(student.reduce_vjp("max", np.ones((0, 1)), np.zeros((0, 4)), 1, True), np.zeros((0, 4)), "float64")
    for operation in ("sum", "mean", "max"):
        same(student.reduce_vjp(operation, np.array(5.0), np.array(-2.0)), 5.0, "float64")
    got = student.reduce_vjp("mean", np.array([np.nan, 4.0]), np.ones((2, 2)), 1)
    same(got, [[np.nan, np.nan], [2.0, 2.0]], "float64")
    got = student.reduce_vjp("max", np.array([3.0, 4.0]), np.array([[-5.0, -2.0], [-1.0, -7.0]]), -1)
    same(got, [[0.0, 3.0], [4.0, 0.0]], "float64")


@pytest.mark.question("q1d")
@pytest.mark.points(1)
@pytest.mark.hidden
def test_nearly_the_largest_gets_nothing(student):
    """max of numbers that differ in their last digits only, large, small and below zero"""
    for size, gap in [(1.0, 1e-9), (4e8, 1e-12), (1e-12, 1e-3), (-2.0, -1e-10)]:
        x = size * np.array([[1.0, 1 + gap, 1 - gap], [1 + gap, 1.0, 1 + gap]])
        got = student.reduce_vjp("max", np.array([4.0, 6.0]), x, 1)
        same(got, [[0.0, 4.0, 0.0], [3.0, 0.0, 3.0]], "float64")


@pytest.mark.question("q1e")
@pytest.mark.points(2)
@pytest.mark.hidden
def test_every_kind_of_key(student, rng):
    """Numbers, slices backward, ellipses, new axes, tables of numbers, masks, pairs of arrays, empty keys"""
    shape = (4, 3, 5)
    numbers = np.arange(math.prod(shape)).reshape(shape)
    keys = [
        2,
        -1,
        (slice(None, None, -1), 1),
        (..., -2),
        (None, slice(1, 3), None),
        np.array([[3, 0], [3, 3]]),
        (np.array([0, 0, 3]), slice(None), np.array([4, 4, 1])),
        numbers % 7 == 2,
        (slice(0, 0),),
        np.array([], dtype=int),
        (1, 2, 3),
    ]
    for key, dtype in itertools.product(keys, ("float32", "float64")):
        read = numbers[key]
        g = np.asarray(rng.integers(-9, 10, np.shape(read)), dtype=dtype)
        expected = np.zeros(numbers.size)
        for place, value in zip(np.ravel(read).tolist(), g.ravel().tolist(), strict=True):
            expected[place] += value
        same(student.index_vjp(g, shape, key), expected.reshape(shape), dtype)
