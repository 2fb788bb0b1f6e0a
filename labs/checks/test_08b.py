"""Checks of lab 08b: products on the simulator, held to NumPy's, to the fewest sectors and wavefronts, no races."""

import numpy as np
import pytest

from autograder.compare import close
from mlsys_lab.kernels import examined


def run(rng, source, name, n, tile, rows, turned=False):
    """Blocks of 32 by `rows` threads for 32 by `tile` results: counts per multiply-add of a warp, result compared."""
    a, b = (rng.integers(-4, 5, (n, n)).astype(np.float32) for _ in range(2))  # whole: any order, one sum
    c = np.full((n, n), np.nan, np.float32)
    report = examined(source, name, (n // 32, n // tile), (32, rows), a, b, c, n)
    close(c, a @ (b.T if turned else b), input={"n": n, "grid": (n // 32, n // tile), "block": (32, rows)})
    steps = n**3 / 32
    return report, report.global_loads.sectors / steps, report.shared.wavefronts / steps


def few(what, got, most, hint):
    assert got <= most * 1.001, (
        f"{got:.3g} {what} per multiply-add of a warp, {most:.3g} are enough: {hint}"
    )


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_the_product_is_right_when_a_warp_walks_along_a_row(student, rng):
    """c is a @ b, for n of 64 and 128"""
    for n in (64, 128):
        run(rng, student.coalesced(), "coalesced", n, 8, 8)


@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_a_warp_asks_for_five_sectors_and_writes_four(student, rng):
    """At most 5 sectors read per multiply-add of a warp, and 4 written per result of a warp"""
    report, sectors, _ = run(rng, student.coalesced(), "coalesced", 64, 8, 8)
    few("sectors read", sectors, 5, "lanes of a warp should take neighbouring columns")
    written = report.global_stores.sectors / (64 * 64 / 32)
    assert written <= 4, f"{written:.3g} sectors per request to c, 4 are enough"


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_the_product_of_tiles_is_right_and_nothing_races(student, rng):
    """c is a @ b, for n of 64 and 96, and nothing races"""
    for n in (64, 96):
        run(rng, student.tiled(), "tiled", n, 32, 32)


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_each_number_is_fetched_once_per_block(student, rng):
    """At most a quarter of a sector read per multiply-add of a warp"""
    _, sectors, _ = run(rng, student.tiled(), "tiled", 128, 32, 32)
    few("sectors read", sectors, 0.25, "a block should fetch each number of its rows and columns once")


@pytest.mark.question("q2")
@pytest.mark.points(1)
def test_the_tiles_are_read_without_conflict(student, rng):
    """No bank conflict, and at most 2.1 wavefronts per multiply-add of a warp"""
    report, sectors, wavefronts = run(rng, student.tiled(), "tiled", 64, 32, 32)
    few("sectors read", sectors, 0.25, "first fetch through tiles")
    conflicts = report.shared.conflicts
    assert conflicts == 0, f"{conflicts} wavefronts are bank conflicts: a warp stores and reads along a row of a tile"
    few("wavefronts", wavefronts, 2.1, "one for each of the two tiles")


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_the_turned_product_is_right_and_its_tiles_stay(student, rng):
    """c is a @ b.T, nothing races, and at most a quarter of a sector is read per multiply-add"""
    for n in (64, 96):
        _, sectors, wavefronts = run(rng, student.padded(), "turned", n, 32, 32, turned=True)
        few("sectors read", sectors, 0.25, "the tiles should stay, and be filled along rows")
        few("wavefronts", wavefronts, 34, "no more than before")


@pytest.mark.question("q3")
@pytest.mark.points(1)
def test_the_turned_product_has_no_conflict(student, rng):
    """No bank conflict is left"""
    report, sectors, wavefronts = run(rng, student.padded(), "turned", 64, 32, 32, turned=True)
    few("sectors read", sectors, 0.25, "the tiles should stay, and be filled along rows")
    conflicts = report.shared.conflicts
    assert conflicts == 0, (
        f"{conflicts} of {report.shared.wavefronts} wavefronts are bank conflicts: "
        "in which bank does each lane's word lie?"
    )
    few("wavefronts", wavefronts, 2.1, "one for each of the two tiles")


@pytest.mark.question("q4")
@pytest.mark.points(1)
def test_the_product_in_registers_is_right_and_nothing_races(student, rng):
    """c is a @ b, for n of 64 and 96, and nothing races"""
    for n in (64, 96):
        run(rng, student.registers(), "registers", n, 32, 8)


@pytest.mark.question("q4")
@pytest.mark.points(1)
def test_the_tiles_are_still_fetched_once(student, rng):
    """At most a quarter of a sector read per multiply-add of a warp"""
    _, sectors, _ = run(rng, student.registers(), "registers", 128, 32, 8)
    few("sectors read", sectors, 0.25, "a block should fetch each number of its rows and columns once")


@pytest.mark.question("q4")
@pytest.mark.points(1)
def test_a_number_of_b_serves_four(student, rng):
    """At most 1.4 wavefronts per multiply-add of a warp, and no bank conflict"""
    report, sectors, wavefronts = run(rng, student.registers(), "registers", 64, 32, 8)
    few("sectors read", sectors, 0.25, "first fetch through tiles")
    few("wavefronts", wavefronts, 1.4, "a number of bs, once read, should serve all four results")
    assert report.shared.conflicts == 0, f"{report.shared.conflicts} wavefronts are bank conflicts"
