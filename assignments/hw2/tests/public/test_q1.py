"""Part 1, rules: each held to an identity, or to small numbers worked out by hand."""

import numpy as np
import pytest

from autograder.compare import close


def holds(got, shape, dtype, what):
    """A gradient has the shape and the dtype of what it belongs to."""
    assert got is not None, f"{what} is None (is there a return?)"
    shown = (np.shape(got), getattr(got, "dtype", type(got).__name__))
    assert shown == (shape, np.dtype(dtype)), (
        f"{what} has to have shape {shape} and dtype {np.dtype(dtype)}, got shape {shown[0]} and {shown[1]}"
    )


def pair(got, a, b, what):
    """Two gradients, one for a and one for b."""
    assert got is not None, f"{what} returned None (is there a return?)"
    assert isinstance(got, list | tuple), f"{what} gives two arrays, got a {type(got).__name__}"
    assert len(got) == 2, f"{what} gives two arrays, got {len(got)}"
    for name, part, owner in (("a", got[0], a), ("b", got[1], b)):
        holds(part, owner.shape, owner.dtype, f"{what}: the gradient for {name}")
    return got


@pytest.mark.question("q1a")
@pytest.mark.points(1)
def test_a_bias_gets_the_sum_over_its_uses(student):
    """A bias used by 32 rows, and a single number used by all"""
    g = np.arange(6.0).reshape(2, 3)
    close(student.unbroadcast(g, (3,)), np.array([3.0, 5.0, 7.0]), input=(g, (3,)))
    close(student.unbroadcast(g, ()), np.array(15.0), input=(g, ()))
    close(student.unbroadcast(np.ones((32, 10)), (10,)), np.full(10, 32.0))


@pytest.mark.question("q1a")
@pytest.mark.points(2)
def test_unbroadcast_is_the_transpose_of_broadcasting(student, rng):
    """The sum of g times the stretched x is the sum of the result times x, for any x"""
    for shape, stretched in [((4, 1), (4, 5)), ((1, 5), (4, 5)), ((3, 1, 5), (2, 3, 4, 5)), ((3,), (3, 3))]:
        g, x = rng.normal(size=stretched), rng.normal(size=shape)
        got = student.unbroadcast(g, shape)
        holds(got, shape, np.float64, f"unbroadcast(g of shape {stretched}, {shape})")
        close(float((got * x).sum()), float((g * x).sum()), rtol=1e-9, atol=1e-9)


@pytest.mark.question("q1b")
@pytest.mark.points(2)
def test_five_rules_agree_with_nudging(student, rng):
    """Each of the five operations, on shapes (3, 1) and (2,), against central differences"""
    a, b, g = rng.normal(size=(3, 1)), rng.uniform(2, 3, 2), rng.normal(size=(3, 2))
    functions = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}
    for name, function in {**functions, "maximum": np.maximum}.items():
        got = pair(student.elementwise_vjp(name, g, a, b), a, b, f'elementwise_vjp("{name}", ...)')
        for place, owner in enumerate((a, b)):
            nudged = np.zeros_like(owner)
            for spot in np.ndindex(*owner.shape):
                step = np.zeros_like(owner)
                step[spot] = 1e-5
                ends = [function(*((a + s, b) if place == 0 else (a, b + s))) for s in (step, -step)]
                nudged[spot] = (g * (ends[0] - ends[1])).sum() / 2e-5
            close(got[place], nudged, rtol=1e-5, atol=1e-6, input=(name, g, a, b))


@pytest.mark.question("q1b")
@pytest.mark.points(1)
def test_a_tie_is_halved(student):
    """maximum: the larger side gets the gradient, each side half of it where they are equal"""
    a, b, g = np.array([1.0, 5.0, 2.0]), np.array([1.0, 4.0, 3.0]), np.array([8.0, 10.0, 12.0])
    got = pair(student.elementwise_vjp("maximum", g, a, b), a, b, 'elementwise_vjp("maximum", ...)')
    close(got[0], np.array([4.0, 10.0, 0.0]), input=("maximum", g, a, b))
    close(got[1], np.array([4.0, 0.0, 12.0]), input=("maximum", g, a, b))


@pytest.mark.question("q1b")
@pytest.mark.points(1)
def test_each_side_keeps_its_dtype(student):
    """float32 beside float64: each gradient has the dtype of its own array"""
    a, b, g = np.ones((2, 2), np.float32), np.ones(2), np.ones((2, 2))
    for name in ("add", "sub", "mul", "div", "maximum"):
        pair(student.elementwise_vjp(name, g, a, b), a, b, f'elementwise_vjp("{name}", ...)')
        pair(student.elementwise_vjp(name, g, b, a), b, a, f'elementwise_vjp("{name}", ...)')


@pytest.mark.question("q1c")
@pytest.mark.points(1)
def test_one_matrix_as_in_lab_04(student):
    """Two matrices and their hand-made gradients"""
    a, b, g = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 5.0]]), np.array([[1.0, 10.0]])
    got = pair(student.matmul_vjp(g, a, b), a, b, "matmul_vjp")
    close(got[0], np.array([[1.0, 10.0, 52.0]]), input=(g, a, b))
    close(got[1], np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]), input=(g, a, b))


@pytest.mark.question("q1c")
@pytest.mark.points(2)
def test_batches_broadcast(student, rng):
    """A product is linear in each factor: sum(g * (x @ b)) is sum(gradient for a * x) for any x"""
    for left, right in [((5, 3, 4), (5, 4, 2)), ((8, 1, 3, 4), (5, 4, 2)), ((3, 4), (6, 4, 2))]:
        a, b, x, y = (rng.normal(size=shape) for shape in (left, right, left, right))
        g = rng.normal(size=(a @ b).shape)
        for_a, for_b = pair(student.matmul_vjp(g, a, b), a, b, f"matmul_vjp of shapes {left} and {right}")
        close((for_a * x).sum(), (g * (x @ b)).sum(), rtol=1e-9, atol=1e-9)
        close((for_b * y).sum(), (g * (a @ y)).sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.question("q1d")
@pytest.mark.points(2)
def test_reductions_of_a_table(student):
    """sum, mean and max of a 2-by-3 table, by rows, by columns and in all"""
    x, rows, columns = np.array([[1.0, 5.0, 2.0], [7.0, 0.0, 3.0]]), np.array([6.0, 12.0]), np.array([2.0, 4.0, 8.0])
    for operation, g, axis, expected in [
        ("sum", rows, 1, [[6, 6, 6], [12, 12, 12]]),
        ("sum", columns, 0, [[2, 4, 8], [2, 4, 8]]),
        ("mean", rows, -1, [[2, 2, 2], [4, 4, 4]]),
        ("mean", np.array(12.0), None, [[2, 2, 2], [2, 2, 2]]),
        ("max", rows, 1, [[0, 6, 0], [12, 0, 0]]),
        ("max", columns, 0, [[0, 4, 0], [2, 0, 8]]),
    ]:
        got = student.reduce_vjp(operation, g, x, axis)
        holds(got, (2, 3), np.float64, f'reduce_vjp("{operation}", ..., axis={axis})')
        close(got, np.array(expected, dtype=float), rtol=1e-12, input=(operation, g, x, axis))


@pytest.mark.question("q1d")
@pytest.mark.points(1)
def test_axes_that_stay_and_tuples_of_axes(student, rng):
    """keepdims or not, one axis or two: the same gradient"""
    x = rng.normal(size=(2, 3, 4)).astype(np.float32)
    for axis, kept, gone in [((0, 2), (1, 3, 1), (3,)), (1, (2, 1, 4), (2, 4)), ((-1, -2), (2, 1, 1), (2,))]:
        g = rng.normal(size=kept).astype(np.float32)
        for given, stay in ((g, True), (g.reshape(gone), False)):
            got = student.reduce_vjp("sum", given, x, axis, stay)
            holds(got, (2, 3, 4), np.float32, f'reduce_vjp("sum", ..., axis={axis}, keepdims={stay})')
            close(got, np.broadcast_to(g, x.shape), rtol=1e-6, input=("sum", given, x, axis, stay))


@pytest.mark.question("q1d")
@pytest.mark.points(1)
def test_several_largest_share(student):
    """max: equal shares, which add up to the gradient that came"""
    x, g = np.array([[3.0, 1.0, 3.0, 3.0], [2.0, 2.0, 0.0, 1.0]]), np.array([9.0, 4.0])
    expected = np.array([[3.0, 0.0, 3.0, 3.0], [2.0, 2.0, 0.0, 0.0]])
    close(student.reduce_vjp("max", g, x, 1), expected, rtol=1e-12, input=("max", g, x, 1))
    every = np.full((2, 2), 7.0)
    close(student.reduce_vjp("max", np.array(1.0), every), np.full((2, 2), 0.25), rtol=1e-12)


@pytest.mark.question("q1e")
@pytest.mark.points(2)
def test_what_is_read_twice_gets_both(student):
    """Rows of a table, some read twice; a slice; a mask"""
    g = np.array([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]])
    expected = np.array([[0.0, 0.0], [3.0, 4.0], [11.0, 22.0]])
    close(student.index_vjp(g, (3, 2), np.array([2, 1, 2])), expected, input=(g, (3, 2), [2, 1, 2]))
    close(student.index_vjp(np.array([1.0, 2.0]), (5,), slice(1, 4, 2)), np.array([0.0, 1, 0, 2, 0]))
    got = student.index_vjp(np.float32([5.0]), (2,), np.array([False, True]))
    holds(got, (2,), np.float32, "index_vjp of a float32 gradient")
    close(got, np.array([0.0, 5.0]))
