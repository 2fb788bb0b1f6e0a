"""Choosing at the edge: the Pareto set and limits against brute force, times against published rows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys_lab.capacity import edge
from mlsys_lab.capacity.convnets import convnet
from mlsys_lab.capacity.edge_answer import edge as answer
from mlsys_lab.capacity.edge_answer import read_candidates, share
from mlsys_lab.capacity.pareto import choose, pareto, pareto_set

NAMES = ("accuracy", "latency_s", "power_w", "cost_usd")
small = st.integers(0, 4)
points = st.integers(1, 4).flatmap(
    lambda d: st.lists(st.lists(small, min_size=d, max_size=d), min_size=1, max_size=25)
)
rows = st.lists(st.fixed_dictionaries(dict.fromkeys(NAMES, small)), min_size=1, max_size=12)
limits = st.dictionaries(st.sampled_from(NAMES[:3]), small, max_size=3)


def dominates(p, q):
    return all(a <= b for a, b in zip(p, q, strict=True)) and p != q


@given(points)
def test_the_pareto_set_is_what_no_pairwise_comparison_rules_out(table):
    brute = [i for i, q in enumerate(table) if not any(dominates(p, q) for p in table)]
    assert pareto(table) == brute


@given(points, st.randoms())
def test_the_pareto_set_does_not_depend_on_the_order_of_the_points(table, rng):
    order = list(range(len(table)))
    rng.shuffle(order)
    found = pareto([table[i] for i in order])
    assert sorted(order[i] for i in found) == pareto(table)


def kept(row, limit):
    return all(row[k] >= v if k == "accuracy" else row[k] <= v for k, v in limit.items())


@given(rows, limits)
def test_the_choice_is_the_cheapest_of_all_that_keep_the_limits(table, limit):
    feasible = [i for i, row in enumerate(table) if kept(row, limit)]
    found = choose(table, limit)
    assert list(found.feasible) == feasible
    if feasible:
        assert table[found.cheapest]["cost_usd"] == min(table[i]["cost_usd"] for i in feasible)
        assert found.cheapest in pareto_set(table, list(table[0]))
    else:
        assert found.cheapest is None


@given(rows, limits)
def test_the_limits_to_blame_are_the_smallest_sets_that_free_a_candidate(table, limit):
    found = choose(table, limit)
    if found.feasible:
        return
    for size in range(1, len(limit) + 1):
        sets = [
            names
            for names in itertools.combinations(limit, size)
            if any(kept(row, {k: v for k, v in limit.items() if k not in names}) for row in table)
        ]
        if sets:
            break
    assert {r.names for r in found.binding} == set(sets)
    for r in found.binding:
        relaxed = limit | dict(r.needed)
        assert kept(table[r.nearest], relaxed)


@given(rows, limits)
def test_with_a_choice_a_limit_binds_when_a_cheaper_one_waits_behind_it(table, limit):
    found = choose(table, limit)
    if not found.feasible:
        return
    best = table[found.cheapest]["cost_usd"]
    waiting = {
        name
        for name in limit
        if any(
            row["cost_usd"] < best and kept(row, {k: v for k, v in limit.items() if k != name})
            for row in table
        )
    }
    assert {r.names[0] for r in found.binding} == waiting


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: pareto([[1.0, float("nan")]]), "not a number"),
        (lambda: pareto([1.0, 2.0]), "expected points"),
        (lambda: choose([], {}), "no candidate"),
        (lambda: choose([{"cost_usd": 1}], {"wings": 2}), "not every candidate has 'wings'"),
        (lambda: edge.edge_device("Jetson Nanno"), "the nearest are .*Jetson Nano"),
        (lambda: edge.power_w(edge.edge_device("Inferentia2")), "watts are not published"),
        (lambda: edge.latency_s(convnet("resnet18"), edge.edge_device("Edge TPU"), "float32"), "no peak"),
        (lambda: edge.latency_s(convnet("resnet18"), edge.edge_device("Edge TPU"), "int4"), "choose one of"),
        (lambda: share("95"), "is the % missing"),
        (lambda: share("much"), "write an accuracy as 95%"),
    ],
)
def test_wrong_input_is_refused_in_one_line(call, says):
    with pytest.raises(ValueError, match=says) as refusal:
        call()
    assert "\n" not in str(refusal.value)


def test_the_roof_is_the_slower_of_arithmetic_and_traffic():
    tpu = edge.edge_device("Edge TPU")
    assert edge.ideal_s(4e9, 8e6, tpu, "int8") == (pytest.approx(1e-3), "compute")
    # Beyond 8 MB the weights come over the link: 10 MB at 0.5 GB/s.
    assert edge.ideal_s(4e9, 18e6, tpu, "int8") == (pytest.approx(20e-3), "memory")


def test_half_the_width_is_half_the_time_under_the_arithmetic_roof_of_twice_the_peak():
    nano = edge.edge_device("Jetson Nano")
    times = [edge.ideal_s(1e9, 0, nano, dtype)[0] for dtype in ("float32", "float16")]
    assert times[0] / times[1] == pytest.approx(2)


def test_a_published_time_is_inside_the_interval_made_without_it_for_at_least_80_percent():
    inside = [
        edge.slowdown(edge.edge_device(r.device), r.dtype, r.kind, without=r).contains(r.slowdown)
        for r in edge.measured()
    ]
    assert len(inside) == 25
    assert np.mean(inside) >= 0.8


def test_a_network_that_was_measured_there_has_its_published_time():
    time = edge.latency_s(convnet("mobilenet_v2"), edge.edge_device("Raspberry Pi 4"), "int8")
    assert (time.mid, time.basis) == (pytest.approx(26.4e-3), "measured")
    other = edge.latency_s(convnet("mobilenet_v2", image=(3, 160, 160)), edge.edge_device("edge tpu"), "int8")
    assert other.basis != "measured"


def test_no_time_is_below_its_roof():
    for candidate in edge.candidates():
        name, _, rest = candidate.name.partition(" ")
        dtype, _, device = rest.partition(" on ")
        net, on = convnet(name), edge.edge_device(device)
        ideal = 2 * net.forward_macs / on.peak(dtype)
        assert candidate.latency_s.low >= 0.9 * ideal


def test_accuracies_are_those_of_torchvision():
    """Its Weights enums, as of 0.29: float32 IMAGENET1K_V1, and the quantized ones."""
    published = {
        "mobilenet_v2": (71.878, 71.658), "mobilenet_v3_large": (74.042, 73.004),
        "resnet18": (69.758, 69.494),
        "resnet50": (76.13, 75.92), "googlenet": (69.778, 69.826), "shufflenet_v2_x0_5": (60.552, 57.972),
        "shufflenet_v2_x1_0": (69.362, 68.36), "resnet34": (73.314, None), "efficientnet_b0": (77.692, None),
        "efficientnet_b3": (82.008, None), "efficientnet_b4": (83.384, None),
        "mobilenet_v3_small": (67.668, None),
    }  # fmt: skip
    seen = {c.name: c.accuracy for c in edge.candidates()}
    for name, (full, quantized) in published.items():
        assert seen[f"{name} float32 on Jetson Nano"] == pytest.approx(full / 100)
        assert seen.get(f"{name} int8 on Edge TPU") == (quantized and pytest.approx(quantized / 100))


def test_every_small_device_says_where_its_figures_stand():
    for device in edge.edge_devices().values():
        assert len(device.source) > 40
        assert device.watts > 0
        assert device.usd > 0
    assert {d.kind for d in edge.edge_devices().values()} == {"cpu", "asic", "gpu", "fpga"}


def test_candidates_of_a_file_are_chosen_among(tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text(
        "name,accuracy,latency,power,cost\na,90%,10ms,3W,50USD\nb,0.95,30ms,3W,40USD\nc,80%,5 ms,1 W,30 USD\n"
    )
    found = answer(read_candidates(table), {"accuracy": 0.85, "latency_s": 0.02})
    assert found.values["choice"] == "a"
    assert found.values["binding"] == "accuracy, latency"
    assert set(found.rows) == {"a", "b", "c"}


def test_power_lies_between_idle_and_what_the_device_is_sold_for():
    pi = edge.power_w(edge.edge_device("Raspberry Pi 4"))
    assert (pi.low, pi.high) == (pytest.approx(2.7), 6.4)
    t4 = edge.power_w(edge.edge_device("T4"))
    assert t4.high == 70


def test_an_estimated_time_is_derived_with_its_numbers():
    found = {c.name: c for c in edge.candidates()}
    streamed = found["resnet50 int8 on Edge TPU"].formula
    assert "(25,557,032 bytes of weights - 8,000,000 on the chip) / 5e+08 B/s = 35.11 ms" in streamed
    dense = found["resnet18 float16 on Jetson Nano"]
    assert "2 x 1,814,073,344 multiply-adds / 4.72e+11 per second = 7.687 ms" in dense.formula
    assert f"= {dense.latency_s.mid * 1e3:.4g} ms" in dense.formula
    assert found["mobilenet_v2 int8 on Edge TPU"].formula.startswith("measured: 2.6 ms")


def test_in_a_notebook_the_pareto_set_and_the_refusal_are_shown_escaped():
    mine = edge.Candidate(
        "<b>", 0.5, edge.Interval.exact(1.0), edge.Interval.exact(1.0), memory_bytes=0.0, cost_usd=1.0
    )
    shown = answer([mine], {"accuracy": 0.9})._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b></th>" not in shown
    assert "accuracy by 40 points" in shown


def test_estimated_times_are_intervals_of_a_factor_of_two_and_more():
    """As the lab says where it is wrong."""
    for on in edge.edge_devices().values():
        dtype = "int8" if "int8" in on.peaks else "float16"
        times = edge.slowdown(on, dtype, "dense")
        assert times.high / times.low >= 2
