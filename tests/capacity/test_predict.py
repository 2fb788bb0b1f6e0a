"""A step's time is the sum of its operations', from the machine's curves; seen with machines made by hand."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from mlsys_lab.capacity.classes import kind  # noqa: E402
from mlsys_lab.capacity.dispatched import operations_of  # noqa: E402
from mlsys_lab.capacity.machine import Machine, cache_bytes, cpu_seconds  # noqa: E402
from mlsys_lab.capacity.predict import Cache, cold_seconds, seconds_of, step_seconds  # noqa: E402

FLOP_S, BYTE_S = 1e-11, 1e-10


def constant(names):
    """A machine on which every FLOP of a product takes as long, and every byte of all else."""
    products = {
        f"product {ways}": [((m, n, k), 2 * m * n * k, 2 * m * n * k * FLOP_S)
                            for m in (8, 1024) for n in (8, 1024) for k in (8, 1024)]
        for ways in ("NN", "NT", "TN", "TT")
    }  # fmt: skip
    others = {name: [((n,), 12 * n, 12 * n * BYTE_S) for n in (1, 1 << 20)] for name in names}
    return Machine("made by hand", "2026-01-01", samples=products | others)


def step(model, x, _):
    model(x).sum().backward()


def test_where_each_unit_costs_the_same_the_step_costs_its_units():
    model, x = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 20)), torch.empty(50, 40)
    seen = operations_of(model, x, step=step)
    machine = constant({"aten::add", "aten::sum"})
    expected = sum(o.flops * FLOP_S or kind(o).units * BYTE_S for o in seen)
    assert step_seconds(model, x, None, machine, step=step) == pytest.approx(expected, rel=1e-2)


def test_between_two_sizes_the_rate_lies_on_the_line_of_logarithms():
    machine = constant({"aten::add"})
    machine.samples["aten::exp"] = [((100,), 800, 800e-9), ((10_000,), 80_000, 80_000e-10)]
    middle = operations_of(nn.Identity(), torch.empty(1000), step=lambda m, x, _: x.exp())[0]
    rate = seconds_of(middle, machine) / 8000
    assert rate == pytest.approx((1e-9 * 1e-10) ** 0.5)


def test_an_operation_that_nobody_measured_is_taken_for_a_stream_of_its_bytes():
    machine = constant({"aten::add"})
    found = operations_of(nn.Identity(), torch.empty(3000), step=lambda m, x, _: x.erfinv())[0]
    assert seconds_of(found, machine) == pytest.approx(2 * 3000 * 4 * BYTE_S)


def test_an_operation_pays_for_what_ran_since_its_class_did():
    """Two sums with a second of products between them, the step after a step: each sum starts cold."""
    machine = constant({"aten::add", "aten::sum"})
    machine.cold = {"aten::sum": [(1.0, 0.5), (3.0, 0.7)]}
    assert cold_seconds("aten::sum", 0.0, machine) == 0.0
    assert cold_seconds("aten::sum", 0.5, machine) == pytest.approx(0.25)
    assert cold_seconds("aten::sum", 2.0, machine) == pytest.approx(0.6)
    assert cold_seconds("aten::sum", 99.0, machine) == pytest.approx(0.7)
    warm = step_seconds(
        nn.Identity(), torch.empty(10), None, constant({"aten::add", "aten::sum"}), step=twice
    )
    machine.cold = {"aten::sum": [(1e-12, 0.5)]}
    apart = step_seconds(nn.Identity(), torch.empty(10), None, machine, step=twice) - warm
    assert apart == pytest.approx(0.5)  # the second follows the first at once; the first, the products


def twice(_, x, __):
    large = x.new_empty(1000, 1000)
    large @ large
    x.sum()
    x.sum()


def test_what_was_not_touched_for_longer_than_the_cache_holds_comes_from_memory():
    machine = constant({"aten::add"})
    machine.stream = [(1 << 20, 1e-11), (1 << 21, 1e-10)]
    small, large = torch.empty(1 << 10), torch.empty(1 << 20)

    def twice(model, x, _):
        return x[0].exp(), x[1].exp(), x[0].exp()

    seen = operations_of(nn.Identity(), [small, large], step=twice)
    cache = Cache(machine)
    late = [cache.late_seconds(o) for o in seen]
    assert late[:2] == [0.0, 0.0]
    assert late[2] == pytest.approx(4096 * (1e-10 - 1e-11))


def test_a_machine_comes_back_from_its_file(tmp_path):
    machine = constant({"aten::add"})
    machine.save(tmp_path / "a" / "machine.json")
    assert Machine.load(tmp_path / "a" / "machine.json") == machine
    assert json.loads((tmp_path / "a" / "machine.json").read_text())["date"] == "2026-01-01"


def test_a_clock_of_the_processor_counts_work_and_not_waiting():
    import time

    waits = cpu_seconds(lambda: time.sleep(0.002), least_s=0.0001, rounds=3)
    assert waits < 0.002


def test_caches_grow_with_their_level():
    sizes = list(cache_bytes().values())
    assert sizes == sorted(sizes)
    assert sizes[0] >= 8 << 10
