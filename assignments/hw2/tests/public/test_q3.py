"""Part 3, the optimiser: numbers worked out by hand."""

import numpy as np
import pytest

from autograder.compare import close


def arrays(got, like, what):
    """A list of arrays with the shapes and dtypes of others."""
    assert isinstance(got, list | tuple), f"{what} is a list of arrays, got {type(got).__name__}"
    shown = [(np.shape(a), str(getattr(a, "dtype", type(a).__name__))) for a in got]
    wanted = [(a.shape, str(a.dtype)) for a in like]
    assert shown == wanted, f"{what}: expected the shapes and dtypes {wanted}, got {shown}"
    return got


def two(got, what, names):
    assert isinstance(got, list | tuple), f"{what} gives two things, {names}; got {type(got).__name__}"
    assert len(got) == 2, f"{what} gives two things, {names}; got {len(got)}"
    return got


def unchanged(got, given, what):
    """What was given, once a function has seen it, is what it was."""
    same = all(np.array_equal(now, before) for now, before in zip(got, given, strict=True))
    assert same, f"{what} that it was given: make new arrays and a new list"


@pytest.mark.question("q3a")
@pytest.mark.points(2)
def test_one_norm_over_all_gradients(student):
    """(3, 4) and 12 have the norm 13 together; below the limit nothing changes, nor do the given arrays"""
    given = [np.array([3.0, 4.0]), np.array([[12.0]])]
    clipped, norm = two(student.clip(given, 6.5), "clip", "gradients and the norm")
    close(norm, 13.0, rtol=1e-12, input=(given, 6.5))
    close(arrays(clipped, given, "clip")[0], np.array([1.5, 2.0]), rtol=1e-12, input=(given, 6.5))
    close(clipped[1], np.array([[6.0]]), rtol=1e-12, input=(given, 6.5))
    clipped, norm = student.clip(given, 14.0)
    close(norm, 13.0, rtol=1e-12, input=(given, 14.0))
    close(list(clipped), given, input=(given, 14.0))
    unchanged(student.after_clip(given, 6.5), given, "clip changed the gradients")


@pytest.mark.question("q3a")
@pytest.mark.points(1)
def test_clipping_keeps_float32(student):
    """float32 gradients stay float32, and their squares do not overflow"""
    given = [np.float32([3e30, 4e30]), np.float32([0.0])]
    clipped, norm = two(student.clip(given, 1.0), "clip", "gradients and the norm")
    close(norm, 5e30, rtol=1e-6, input=(given, 1.0))
    close(arrays(clipped, given, "clip")[0], np.array([0.6, 0.8]), rtol=1e-6, input=(given, 1.0))


@pytest.mark.question("q3b")
@pytest.mark.points(2)
def test_three_updates_of_one_parameter(student):
    """Three updates with simple numbers: beta 1/2 and 3/4, decay 1/10"""
    p, state = [np.array([1.0, -2.0])], {}
    given = [np.array([1.0, 2.0]), np.array([-1.0, 2.0]), np.array([3.0, 0.0])]
    # m hat and v hat by hand: (1, 2) and (1, 4); (-1/3, 2) and (1, 4); (11/7, 6/7) and (165/37, 84/37).
    expected = [
        np.array([0.88, -2.06]),
        np.array([0.8957333333333334, -2.1188]),
        np.array([0.803404857693, -2.133311183121]),
    ]
    for g, wanted in zip(given, expected, strict=True):
        p, state = two(
            student.adamw(p, [g], state, 0.1, (0.5, 0.75), 0.0, 0.2),
            "adamw",
            "parameters and the state",
        )
        close(arrays(p, [g], "adamw")[0], wanted, rtol=1e-9, input=(g, "lr 0.1, betas (1/2, 3/4), decay 0.2"))


@pytest.mark.question("q3b")
@pytest.mark.points(1)
def test_the_first_update_is_the_rate_whatever_the_gradient(student):
    """Corrected for its start from 0, the first update moves by the rate along the sign"""
    given = [np.float32([1e-4, 5.0]), np.float32([[-300.0]])]
    zeros = [np.zeros_like(g) for g in given]
    p, _ = two(student.adamw(zeros, given, {}, 0.01, weight_decay=0.5), "adamw", "parameters and the state")
    arrays(p, given, "adamw")
    close(p[0], np.array([-0.01, -0.01]), rtol=1e-3, input=given)
    close(p[1], np.array([[0.01]]), rtol=1e-3, input=given)


@pytest.mark.question("q3b")
@pytest.mark.points(1)
def test_a_gradient_of_none_leaves_its_parameter_alone(student):
    """A parameter without a gradient stays; decay alone shrinks one whose gradient is 0; the given arrays stay"""
    start = [np.array([1.0]), np.array([1.0])]
    p, state = two(student.adamw(start, [None, np.zeros(1)], {}, 0.1, weight_decay=0.5), "adamw", "two things")
    close(list(p), [np.array([1.0]), np.array([0.95])], rtol=1e-12)
    p, state = student.adamw(p, [np.array([7.0]), None], state, 0.1, weight_decay=0.0)
    close(list(p), [np.array([0.9]), np.array([0.95])], rtol=1e-6, input="the other one has its first update")
    start, given = [np.array([1.0]), np.array([2.0])], [np.array([3.0]), np.array([4.0])]
    parameters, gradients = student.after_adamw(start, given)
    unchanged(parameters, start, "adamw changed the parameters")
    unchanged(gradients, given, "adamw changed the gradients")


@pytest.mark.question("q3c")
@pytest.mark.points(2)
def test_up_down_and_flat(student):
    """Four steps up to 0.8, eight down to 0.2, then flat"""
    expected = [0.2, 0.4, 0.6, 0.8, 0.8, 0.7771638598, 0.7121320344, 0.6148050297, 0.5, 0.3851949703]
    expected += [0.2878679656, 0.2228361402, 0.2, 0.2, 0.2]
    for step, rate in enumerate(expected):
        close(student.learning_rate(step, 0.8, 4, 12, 0.2), rate, rtol=1e-8, input=(step, 0.8, 4, 12, 0.2))
