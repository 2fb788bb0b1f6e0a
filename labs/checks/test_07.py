"""Checks of lab 07: loops that count what they touch, bounds by hand, vehicles that drive minute by minute."""

import numpy as np
import pytest

from autograder.compare import close


def counted(name, sizes, width):
    """FLOPs and bytes by running the loops and noting which elements were touched."""
    flops, touched = 0, set()
    if len(sizes) == 1:
        for i in range(*sizes):
            flops += {"add": 1, "axpy": 2}[name]
            touched |= {("read x", i), ("read y", i), ("write", i)}
    else:
        rows, inner, columns = (*sizes, 1)[:3]
        for i in range(rows):
            for j in range(columns):
                touched.add(("write", i, j))
                for p in range(inner):
                    flops += 2
                    touched |= {("read a", i, p), ("read b", p, j)}
    return flops, len(touched) * width


def hold_work(student, name, sizes, width=None):
    given = {"name": name, "sizes": sizes} | ({} if width is None else {"width": width})
    got = student.work(name, sizes) if width is None else student.work(name, sizes, width)
    assert isinstance(got, tuple | list), f"two numbers are asked for, FLOPs and bytes, got {got!r:.80}"
    assert len(got) == 2, f"two numbers are asked for, FLOPs and bytes, got {len(got)}"
    expected = counted(name, sizes, width or 4)
    close({"FLOPs": got[0], "bytes": got[1]}, {"FLOPs": expected[0], "bytes": expected[1]}, input=given)


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_vectors(student):
    """A sum and axpy of vectors, of one element too."""
    for n in (1, 7, 100):
        hold_work(student, "add", (n,))
        hold_work(student, "axpy", (n,))


@pytest.mark.question("q1")
@pytest.mark.points(2)
def test_products(student):
    """Matrix times vector and matrix times matrix, square, flat and thin."""
    for sizes in ((4, 4), (3, 9), (9, 1), (1, 8)):
        hold_work(student, "matvec", sizes)
    for sizes in ((4, 4, 4), (2, 9, 3), (1, 8, 5), (6, 1, 6), (5, 7, 1)):
        hold_work(student, "matmul", sizes)


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_elements_of_another_width(student):
    """The same operations in bf16 and float64."""
    for width in (2, 8):
        hold_work(student, "axpy", (11,), width)
        hold_work(student, "matvec", (3, 5), width)
        hold_work(student, "matmul", (2, 3, 4), width)


def hold_roof(student, intensity, peak, bandwidth):
    got = student.roof(intensity, peak, bandwidth)
    given = {"intensity": intensity, "peak": peak, "bandwidth": bandwidth}
    assert isinstance(got, tuple | list), f"attainable and ridge are asked for, got {got!r:.80}"
    assert len(got) == 2, f"attainable and ridge are asked for, got {len(got)} values"
    i, slope = np.broadcast_arrays(np.asarray(intensity, float), np.asarray(bandwidth, float))
    each = [peak if one * s > peak else one * s for one, s in zip(i.ravel(), slope.ravel(), strict=True)]
    attainable = np.array(each).reshape(i.shape)
    ridge = np.array([peak / s for s in np.ravel(bandwidth)]).reshape(np.shape(bandwidth))
    named = {"attainable": np.asarray(got[0]), "ridge": np.asarray(got[1])}
    close(named, {"attainable": attainable, "ridge": ridge}, rtol=1e-9, input=given)


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_one_operation_on_either_side_of_the_ridge(student):
    """Under the slope, under the flat part, at the ridge itself, and with no FLOP at all."""
    for intensity in (0.25, 100.0, 10.0, 0.0):
        hold_roof(student, intensity, 50e9, 5e9)


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_many_operations_at_once(student, rng):
    """Arrays of intensities, on both sides of the ridge."""
    hold_roof(student, rng.uniform(0.01, 50, 9), 80e9, 10e9)
    hold_roof(student, rng.uniform(0.01, 900, (2, 3)), 989e12, 3.35e12)


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_several_levels_of_memory(student, rng):
    """A bandwidth for each level: rows of operations, columns of levels."""
    hold_roof(student, rng.uniform(0.1, 20, (4, 1)), 60e9, np.array([200e9, 40e9, 9e9]))


def driven(people, seats, minutes):
    """First and last arrival by driving: there, out, back, until nobody waits."""
    now, arrivals, waiting = 0, [], people
    while waiting:
        now += minutes
        arrivals.append(now)
        waiting -= min(seats, waiting)
        now += minutes
    return arrivals[0], arrivals[-1]


def hold_crossing(student, place, people, seats, minutes):
    got = student.crossing(people, seats, minutes)
    assert isinstance(got, tuple | list), f"first, last and people per hour are asked for, got {got!r:.80}"
    assert len(got) == 3, f"first, last and people per hour are asked for, got {len(got)} values"
    # an endless queue: what a hundred trips carry, by the time the vehicle is back
    rate = 100 * seats / (100 * 2 * minutes / 60)
    name = ("first", "last", "per hour")[place]
    expected = (*driven(people, seats, minutes), rate)[place]
    given = {"people": people, "seats": seats, "minutes": minutes}
    close({name: got[place]}, {name: expected}, rtol=1e-9, input=given)


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_first_and_last_when_every_seat_is_taken(student):
    """Full vehicles, one and several trips."""
    for given in ((4, 4, 10), (120, 60, 25), (5, 1, 3)):
        hold_crossing(student, 0, *given)
        hold_crossing(student, 1, *given)


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_the_last_trip_may_have_empty_seats(student, rng):
    """People that do not fill the last vehicle, and fewer than one vehicle holds."""
    for given in ((5, 4, 10), (61, 60, 25), (1, 60, 25)):
        hold_crossing(student, 1, *given)
    for _ in range(5):
        hold_crossing(student, 1, int(rng.integers(1, 300)), int(rng.integers(1, 70)), int(rng.integers(1, 40)))


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_people_per_hour_do_not_depend_on_how_many_wait(student):
    """An endless queue: the way back counts, the people who happen to wait do not."""
    for given in ((1, 4, 10), (500, 4, 10), (7, 60, 25), (60, 60, 30)):
        hold_crossing(student, 2, *given)
