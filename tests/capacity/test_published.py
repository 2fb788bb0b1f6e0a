"""The published figures: the benchmark's own table, held to its tolerances and promises."""

from __future__ import annotations

import csv
import importlib.util
import json
import statistics
import sys
from pathlib import Path

import pytest

from mlsys_lab._core.hardware import DEVICES, device
from mlsys_lab.capacity.runs import gpu_hours, published_runs, utilisation
from mlsys_lab.capacity.zoo import language_model

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
ROWS = list(csv.DictReader((BENCHMARKS / "capacity_published.csv").open(encoding="utf-8", newline="")))


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("capacity_benchmark", BENCHMARKS / "capacity.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look there
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


@pytest.mark.parametrize("row", [r for r in ROWS if r["kind"] == "computed"], ids=lambda r: r["id"])
def test_a_computed_figure_is_the_published_one(benchmark, row):
    check = benchmark.check(row)
    if row["category"] in ("params", "kv_cache") and float(row["tol_rel"]) == 0:
        assert check.ours == int(float(row["value"]))
    assert check.passed or check.to_printed_digits, check


def test_only_two_figures_are_held_to_their_printed_digits_instead_of_the_tolerance(benchmark):
    checks = [benchmark.check(row) for row in ROWS]
    assert [c.id for c in checks if c.to_printed_digits] == ["V055", "V183"]
    assert not benchmark.missed(checks)


def test_a_benchmark_that_misses_a_bar_says_so(benchmark):
    row = next(r for r in ROWS if r["id"] == "V010")
    assert benchmark.missed([benchmark.check({**row, "value": str(int(row["value"]) + 1)})])


def test_its_json_has_the_keys_that_scripts_read(benchmark, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["capacity.py", "--json", str(tmp_path / "out.json")])
    assert benchmark.main() == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert len(found["checks"]) == len(ROWS)
    assert {"id", "kind", "ours", "published", "error", "tolerance", "pass"} <= set(found["checks"][0])
    assert "calibrated" in capsys.readouterr().out


def test_gpu_hours_of_a_family_that_was_left_out_lie_in_the_interval_four_times_in_five():
    inside, ratios = [], []
    for run in published_runs():
        found = gpu_hours(run.parameters, run.tokens, device(run.gpu), without=[run.family])
        assert run.model not in found.rows
        inside.append(found.contains(run.gpu_hours))
        ratios.append(found.high / found.low)
    assert len(inside) >= 25
    assert statistics.fmean(inside) >= 0.8
    assert statistics.fmean(ratios) <= 3


def test_a_device_without_runs_gets_an_assumed_interval_and_one_with_runs_a_calibrated_one():
    assert utilisation(device("TPU v5e")).basis == "assumed"
    assert utilisation(device("H100")).basis == "calibrated"
    assert utilisation(device("H100")).mid < utilisation(device("A100")).mid


def test_every_run_is_on_a_known_device_and_reaches_a_plausible_share_of_its_peak():
    assert all(0.05 < run.mfu < 0.6 and run.source for run in published_runs())
    named = {"Llama-2-7B": "llama-2-7b", "BLOOM-176B": "bloom-176b", "Llama-3.1-405B": "llama-3.1-405b"}
    for run in published_runs():
        if run.model in named:
            assert run.parameters == pytest.approx(language_model(named[run.model]).parameters, rel=1e-3)


def test_every_device_has_its_figures_with_a_source_and_a_year():
    assert len(DEVICES) >= 20
    for d in DEVICES.values():
        assert d.memory_bytes > 0
        assert d.memory_bytes_per_s > 0
        assert d.peaks
        assert any(f"20{year}" in d.source for year in range(19, 27)), d.name
        assert not d.usd_per_hour[1] or "20" in d.price_source
        for dtype, peak in d.sparse_peaks.items():
            assert peak == pytest.approx(2 * d.peaks[dtype], rel=0.03)
    assert {d.kind for d in DEVICES.values()} == {"gpu", "tpu", "fpga", "asic", "cpu"}


def test_sparse_and_dense_peaks_are_apart_and_a_missing_one_is_named():
    assert device("H100").peak("bf16") == pytest.approx(989.4e12)
    assert device("H100").peak("bf16", sparse=True) == pytest.approx(1978.8e12)
    assert device("A100-80GB-SXM").name == device("a100").name == "A100"
    with pytest.raises(ValueError, match="V100 has no peak for bf16; it has float16"):
        device("V100").peak("bf16")
