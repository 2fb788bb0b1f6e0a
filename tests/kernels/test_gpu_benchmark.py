"""benchmarks/gpu.py without a GPU: what it reads and judges, on samples of the tools' text and a stand-in."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mlsys_lab.kernels")
from mlsys_lab.kernels import NotSimulated
from mlsys_lab.kernels.launcher import Launcher
from mlsys_lab.kernels.library import LADDER

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def beside(monkeypatch) -> None:
    """The benchmark's modules lie beside each other, not in a package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


#: In the format of ncu's view "cuda,sass", for transpose_tiled: rows of the source have a line number and the
#: sums of the machine instructions below them, which have an address. Written from the documentation.
PAGE = """"File Path","/opt/cuda/include/sm_32_intrinsics.hpp"
"Function Name","transpose_tiled"
"Line No","Source","Address","Source","Instructions Executed","L2 Theoretical Sectors Global",\
"L1 Wavefronts Shared Excessive"
"7","other","...","","192","999","0"
"File Path","/tmp/x/kernel.cu"
"Function Name","transpose_tiled"
"Line No","Source","Address","Source","Instructions Executed","L2 Theoretical Sectors Global",\
"L1 Wavefronts Shared Excessive"
"1","// a comment","-","","-","-","-"
"21","tile[y][x] = in[i];","...","","384","768","0"
"","","0x7f0000000010","      LDG.E R4, [R2.64]","192","768","0"
"","","0x7f0000000020","      STS [R5], R4","192","0","0"
"27","out[i] = tile[x][y];","...","","384","768","5,952"
"","","0x7f0000000040","      LDS R4, [R5]","192","0","5,952"
"","","0x7f0000000050","      STG.E [R2.64], R4","192","768","0"
"""
RACY = """========= COMPUTE-SANITIZER
========= Error: Race reported between Write access at k(const float *, float *)+0x150 in kernel.cu:4
=========     and Read access at k(const float *, float *)+0x160 in kernel.cu:5 [1024 hazards]
=========     and Write access at k(const float *, float *)+0x150 in kernel.cu:4 [32 hazards]
=========
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""
CLEAN = (
    "========= COMPUTE-SANITIZER\n========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n"
)


def test_lines_of_the_source_page_agree_with_the_simulators_counts():
    from _gpu_tools import compared, ncu_counts, our_counts

    theirs = ncu_counts(PAGE)
    assert theirs == {21: {"sectors": 768, "conflicts": 0}, 27: {"sectors": 768, "conflicts": 5952}}
    rows = compared("transpose_tiled", our_counts("transpose_tiled"), theirs)
    assert [(r["line"], r["counter"], r["pass"]) for r in rows] == [
        (21, "sectors", True),
        (27, "sectors", True),
        (27, "conflicts", True),
    ]


def test_a_line_that_one_side_alone_counts_fails():
    from _gpu_tools import compared

    rows = compared("k", {3: {"sectors": 8, "conflicts": 0}}, {4: {"sectors": 8, "conflicts": 0}})
    assert [(r["line"], r["ours"], r["ncu"], r["pass"]) for r in rows] == [(3, 8, 0, False), (4, 0, 8, False)]


@pytest.mark.parametrize("text", ["", "==ERROR== ERR_NVGPUCTRPERM"])
def test_what_is_no_source_page_is_an_error_and_not_a_table_without_rows(text):
    from _gpu_tools import ncu_counts

    with pytest.raises(ValueError, match="ncu printed no source page"):
        ncu_counts(text)


def test_races_are_read_from_racechecks_analysis_report():
    from _gpu_tools import racecheck_races

    assert racecheck_races(RACY) == [(4, 4), (4, 5)]
    assert racecheck_races(RACY.replace("Error:", "Warning:")) == [(4, 4), (4, 5)]
    assert racecheck_races(CLEAN) == []
    with pytest.raises(ValueError, match="no summary: Device not supported"):
        racecheck_races("Device not supported")


def test_the_kernels_for_racecheck_race_exactly_where_they_lack_something():
    from _gpu_tools import RACES, our_races

    assert {name: bool(our_races(source)) for name, source in RACES.items()} == {
        name: "without" in name for name in RACES
    }


def test_a_tool_is_run_with_its_options_and_its_answer_compared(monkeypatch, tmp_path):
    import _gpu_tools

    asked: list[list[str]] = []

    def run(command: list[str], folder: Path) -> str:
        asked.append(list(command))
        return RACY if "--tool" in command else PAGE

    monkeypatch.setattr(_gpu_tools, "run", run)
    rows = _gpu_tools.with_ncu("transpose_tiled", tmp_path, "ncu")
    assert all(r["pass"] for r in rows)
    profile, page = asked
    assert profile[-5:] == [str(_gpu_tools.CHILD), "rung", "transpose_tiled", "64", "96"]
    assert profile[profile.index("--kernel-name") + 1] == "regex:transpose_tiled"
    assert page[page.index("--import") + 1] == profile[profile.index("-o") + 1]
    assert (tmp_path / "kernel.cu").read_text() == (_gpu_tools.FOLDER / "transpose.cu").read_text()
    racy = "neighbour without its barrier"
    one = _gpu_tools.with_racecheck(racy, tmp_path, "compute-sanitizer")
    assert one == {"kernel": racy, "ours": [(4, 5)], "racecheck": [(4, 4), (4, 5)], "pass": True}
    assert not _gpu_tools.with_racecheck("neighbour", tmp_path, "compute-sanitizer")["pass"]


def test_a_tool_that_fails_says_why(tmp_path):
    from _gpu_tools import run

    with pytest.raises(RuntimeError, match=r"ended with 3: no counters here"):
        run([sys.executable, "-c", "print('no counters here'); raise SystemExit(3)"], tmp_path)


def test_the_child_launches_a_rung_and_a_racy_kernel(monkeypatch):
    import _gpu_child

    _gpu_child.main("rung", "transpose_tiled", "64", "96", device="simulator")
    _gpu_child.main("race", "neighbour", device="simulator")


def test_a_rung_is_held_to_its_definition_and_a_wrong_one_is_told(monkeypatch):
    import _gpu_goals

    monkeypatch.setitem(_gpu_goals.CHECKED, "transpose", (37, 45))
    one = _gpu_goals.checked(LADDER["transpose_tiled"], "simulator")
    assert (one["kernel"], one["sizes"], one["error"], one["pass"]) == (
        "transpose_tiled",
        [37, 45],
        0.0,
        True,
    )

    class Wrong:
        name, family = "transpose_wrong", "transpose"

        def run(self, x: np.ndarray, device: str) -> tuple[np.ndarray, None]:
            return np.full_like(x.T, np.nan), None  # no element was written

    assert not _gpu_goals.checked(Wrong(), "simulator")["pass"]


class Simulated(Launcher):
    """Stands for the recorder: launches on the simulator, whose arrays are NumPy's."""

    def __call__(self, kernel: str, grid: Any, *arguments: Any, shared: int = 0) -> None:
        super().__call__(kernel, grid, *arguments, shared=shared)
        self.calls = [*getattr(self, "calls", []), (kernel, grid, arguments, shared)]

    def again(self) -> None:
        for kernel, grid, arguments, shared in self.calls:
            Launcher.__call__(self, kernel, grid, *arguments, shared=shared)


class Cpu:
    """Stands for the GPU: tensors of torch on the CPU, and a clock that says what it is told."""

    name = "no GPU"

    def __init__(self, torch: Any, times: dict[Any, float]) -> None:
        self.torch, self.cupy, self.times, self.renewed = torch, None, times, 0

    def normal(self, *shape: int, bf16: bool = False) -> Any:
        return self.torch.randn(shape, dtype=self.torch.bfloat16 if bf16 else self.torch.float32)

    def ours(self, tensor: Any) -> np.ndarray:
        bits = tensor.view(self.torch.int16) if tensor.dtype == self.torch.bfloat16 else tensor
        return bits.numpy()

    def theirs(self, array: Any) -> Any:
        return self.torch.as_tensor(array)

    def recorder(self) -> Simulated:
        return Simulated()

    def seconds(self, step: Any) -> float:
        step()
        return self.times.get(getattr(step, "__name__", ""), 2e-6)

    def renew(self, tensors: list[Any]) -> None:
        self.renewed += 1
        for tensor in tensors:
            tensor.normal_()


def test_every_goal_is_measured_beside_its_peers_on_fresh_data_and_judged(monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    import _gpu_goals

    monkeypatch.setitem(_gpu_goals.SIZES, True, (4096, 8, 64, 32))
    monkeypatch.setattr(torch, "compile", lambda function: function)
    gpu, into = Cpu(torch, {"again": 1e-6}), _gpu_goals.Measured()
    for make in _gpu_goals.cases(gpu, True):
        with contextlib.suppress(NotSimulated):  # by one rung
            _gpu_goals.measured(gpu, make(), 1e12, 2, True, into)
    pairs = {(r.case, r.peer_name): r for r in into.rows}
    assert {case for case, _ in pairs} == {
        "vector add", "copy", "reduction", "softmax", "layernorm", "matmul float32", "matmul bf16, WMMA",
        "attention, causal",
    }  # fmt: skip
    assert pairs["reduction", "torch.sum"].ratio_median == pytest.approx(0.5)
    assert pairs["reduction", "torch.sum"].passed
    assert pairs["matmul bf16, WMMA", "cuBLAS"].bar is None
    # 12 bytes for each of 4096 elements at 1e12 bytes/s are 0.049 us: ours, 1 us, misses 95 % of it.
    add = pairs["vector add", "copy"]
    assert (add.peer, add.passed) == (pytest.approx(0.049152), False)
    assert gpu.renewed == 2 * 8
    rates = {(r["case"], r["who"]): r["rate"] for r in into.rates}
    assert rates["matmul float32", "ours"] == pytest.approx(2 * 64**3 / 1e-6 / 1e12)


def test_a_result_that_is_not_the_peers_is_no_measurement():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from _gpu_goals import Case, Measured, measured

    def fails() -> None:
        raise RuntimeError("no kernel image is available")

    x, into = torch.ones(4), Measured()
    case = Case("wrong", lambda: None, lambda: 2 * x, {"broken": (fails, 1.0), "peer": (lambda: x, 1.0)}, [])
    with pytest.raises(ArithmeticError, match="wrong: 1 away from peer"):
        measured(Cpu(torch, {}), case, 1e12, 2, True, into)
    assert into.rows == []
    assert into.left_out == ["wrong, broken: no kernel image is available"]


def test_a_missed_bar_a_wrong_kernel_or_a_disagreement_is_exit_1_and_quick_judges_no_bar(monkeypatch, capsys):
    import gpu
    from measure import row

    def table(cost: float, right: bool, agrees: bool, quick: bool) -> int:
        found = gpu.Measured(rows=[row("case", "peer", [cost], [1.0], "us", None if quick else 1.0)])
        monkeypatch.setattr(gpu, "checks", lambda: [{"kernel": "k", "pass": right}])
        monkeypatch.setattr(gpu, "goals", lambda device, quick: ({}, found))
        monkeypatch.setattr(gpu, "watched", lambda name, over, by: ([{"kernel": "k", "pass": agrees}], []))
        options = argparse.Namespace(quick=quick, only=gpu.PARTS)
        return gpu.with_gpu(argparse.Namespace(name="GPU"), options)[1]

    assert table(0.9, True, True, False) == 0
    assert table(1.1, True, True, False) == 1
    assert table(1.1, True, False, True) == 0
    assert table(0.9, False, True, True) == 1
    assert table(0.9, True, False, False) == 1
    assert "MISSED" in capsys.readouterr().out


def test_without_a_gpu_it_says_so_does_what_needs_none_and_ends_with_0(monkeypatch, capsys, tmp_path):
    import gpu

    def none() -> None:
        raise RuntimeError("no GPU: CuPy sees none; a remedy")

    monkeypatch.setattr(gpu, "there", none)
    monkeypatch.setattr(gpu, "in_peers_environment", lambda arguments: None)
    monkeypatch.setattr(gpu, "KERNELS", {name: gpu.KERNELS[name] for name in ("scan", "matmul_wgmma")})
    place = tmp_path / "gpu.json"
    assert gpu.main(["--json", str(place), "--date", "2026-11-21", "--quick"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("no GPU: CuPy sees none. What needs none:\n")
    assert "transpose_tiled    line  27: 768 sectors, 5,952 conflicts" in said
    written = json.loads(place.read_text())
    assert (written["date"], written["rows"], written["left_out"]) == (
        "2026-11-21", [], ["no GPU: CuPy sees none"],
    )  # fmt: skip
    assert written["without_gpu"]["races"]["neighbour without its barrier"] == [[4, 5]]
    if written["without_gpu"]["compiled"]:
        assert [(c["file"], c["arch"], c["spills"]) for c in written["without_gpu"]["compiled"]] == [
            ("scan", "sm_80", 0), ("scan", "sm_90", 0), ("matmul_wgmma", "sm_90a", 0),
        ]  # fmt: skip


def test_a_tool_that_is_not_there_is_left_out_and_one_that_fails_says_at_which_kernel(monkeypatch):
    import gpu

    monkeypatch.setattr(gpu, "tool", lambda name: None)
    assert gpu.watched("ncu", ["a"], None) == ([], ["ncu: it is not installed"])
    monkeypatch.setattr(gpu, "tool", lambda name: name)

    def by(one: str, folder: Path, place: str) -> str:
        if one == "b":
            raise RuntimeError("LibraryNotLoaded")
        return one

    assert gpu.watched("ncu", ["a", "b"], by) == (["a"], ["ncu, b: LibraryNotLoaded"])
