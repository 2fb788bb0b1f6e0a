"""The ladder of kernels on a real GPU: are they right, how fast beside the best of others, counted rightly.

    python benchmarks/gpu.py [--quick] [--json FILE] [--date DATE] [--only PART ...]

Four parts: `checks` holds every kernel to its definition; `goals` measures the ceilings and the table of
goals; `ncu` compares sectors and (wavefronts - ideal) per line with Nsight Compute; `racecheck` compares
races with compute-sanitizer. Without a GPU it says so, does what needs none, and ends with 0. With one it
ends with 1 where a kernel is wrong, or, unless --quick, where a bar is missed or a tool disagrees.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _gpu_goals import Gpu, Measured, cases, ceilings, checked, measured
from _gpu_tools import FAIR, RACES, our_counts, our_races, tool, with_ncu, with_racecheck
from measure import ROOT, machine, peers_environment, report

from mlsys_lab.kernels.frontend import FOLDER, CompileError, NoFrontEnd
from mlsys_lab.kernels.gpu import cupy_with_gpu
from mlsys_lab.kernels.launcher import ARCHITECTURES, KERNELS
from mlsys_lab.kernels.library import RUNGS
from mlsys_lab.kernels.residency import resources
from mlsys_lab.kernels.tensor_map import driver

PARTS = ("checks", "goals", "ncu", "racecheck")
AGAIN = "MLSYS_LAB_BENCH_GPU"  # set where this process was started in the peers' environment
TOOLKIT = Path("/usr/local/cuda")


def there() -> Gpu:
    """The GPU, with torch and CuPy on it.

    Raises:
        RuntimeError: there is none, or one of them is missing or sees none.
    """
    cupy = cupy_with_gpu()
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise RuntimeError("no GPU: torch is not installed") from None
    if not torch.cuda.is_available():
        raise RuntimeError("no GPU: torch sees none")
    return Gpu(torch, cupy)


def in_peers_environment(arguments: list[str]) -> int | None:
    """Run this script where the peers are; None where there is no driver, or this is that process."""
    if os.environ.get(AGAIN):
        return None
    try:
        driver()
    except RuntimeError:
        return None
    python = peers_environment("gpu") / "python"
    environment = {**os.environ, AGAIN: "1", "PYTHONPATH": str(ROOT)}
    command = [str(python), str(Path(__file__).resolve()), *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


def compiled() -> list[dict[str, Any]]:
    """Machine code of every file for the GPUs that it is for: kernels, the most registers, spills."""
    found = []
    for file in KERNELS:
        for arch in (ARCHITECTURES[file],) if file in ARCHITECTURES else ("sm_80", "sm_90"):
            has = resources((FOLDER / f"{file}.cu").read_text("utf-8"), arch).values()
            spilled = sum(one.spill_bytes for one in has)
            most = max(one.registers for one in has)
            found.append(
                {"file": file, "arch": arch, "kernels": len(has), "registers": most, "spills": spilled}
            )
    return found


def without_gpu() -> dict[str, Any]:
    """What needs no GPU: machine code, and the counts and races that the tools would be held to."""
    done: dict[str, Any] = {"compiled": [], "counts": {}, "races": {}}
    try:
        done["compiled"] = compiled()
    except (CompileError, NoFrontEnd) as reason:
        print(f"not compiled: {reason}")
    for one in done["compiled"]:
        print(
            "{file:14} {arch:8} {kernels} kernels, at most {registers} registers, {spills} spilled".format(
                **one
            )
        )
    for rung in FAIR:
        done["counts"][rung] = our_counts(rung)
        for line, counts in done["counts"][rung].items():
            print(
                f"{rung:18} line {line:3}: {counts['sectors']:,} sectors, {counts['conflicts']:,} conflicts"
            )
    for name, source in RACES.items():
        done["races"][name] = our_races(source)
        lines = ", ".join(" and ".join(map(str, pair)) for pair in done["races"][name])
        print(f"{name:32} {f'race, lines {lines}' if lines else 'no race'}")
    return done


def checks() -> list[dict[str, Any]]:
    """Every rung against its definition, on this GPU."""
    found = []
    for rung in RUNGS:
        try:
            one = checked(rung)
        except Exception as reason:  # of CuPy, the driver, a compiler: the other kernels are checked
            one = {"kernel": rung.name, "error": str(reason), "pass": False}
        found.append(one)
        print(f"{one['kernel']:22} {one['error']:<12.3g} {'ok' if one['pass'] else 'WRONG'}" if "sizes" in one
              else f"{one['kernel']:22} not run: {one['error'][:160]}")  # fmt: skip
    return found


def goals(gpu: Gpu, quick: bool) -> tuple[dict[str, float], Measured]:
    """The ceilings and the table of goals; what cannot be measured is left out with the reason."""
    top, into = ceilings(gpu, quick), Measured()
    print(", ".join(f"{name} {value:.3g}" for name, value in top.items()))
    for make in cases(gpu, quick):
        try:
            measured(gpu, make(), top["copy_bytes_per_s"], 3 if quick else 20, not quick, into)
        except Exception as reason:  # as above
            into.left_out.append(f"{make.__name__}: {' '.join(str(reason).split())[:160]}")
    for one in into.rates:
        print(f"{one['case']:22} {one['who']:20} {one['rate']:9.3f} {one['unit']}")
    return top, into


def watched(name: str, over: Any, by: Callable[[Any, Path, str], Any]) -> tuple[list[Any], list[str]]:
    """What a tool finds for each of some kernels; and what it could not do."""
    place = tool(name)
    if place is None:
        return [], [f"{name}: it is not installed"]
    found, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        for one in over:
            try:
                found.append(by(one, Path(folder), place))
            except (RuntimeError, ValueError, subprocess.TimeoutExpired) as reason:
                failed.append(f"{name}, {one}: {str(reason)[:300]}")
    return found, failed


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table there")
    parser.add_argument(
        "--quick", action="store_true", help="small and few, to see that it runs; judges no bar"
    )
    parser.add_argument("--date", type=date.fromisoformat, default=date.today(), help="of the table")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=" ".join(PARTS)
    )
    return parser.parse_args(arguments)


def with_gpu(gpu: Gpu, options: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """All parts that were asked for; the table and the exit code."""
    table: dict[str, Any] = {"rows": [], "left_out": []}
    code = 0
    if "checks" in options.only:
        table["checks"] = checks()
        code |= not all(one["pass"] for one in table["checks"])
    if "goals" in options.only:
        table["ceilings"], found = goals(gpu, options.quick)
        table["rows"], table["rates"] = [r.as_json() for r in found.rows], found.rates
        table["left_out"] += found.left_out
        if found.rows:
            shown = argparse.Namespace(quick=options.quick, json=None)
            code |= report(found.rows, shown, about=gpu.name)
        code |= bool(found.left_out) and not options.quick
    for part, name, over, by in (
        ("ncu", "ncu", FAIR, with_ncu), ("racecheck", "compute-sanitizer", RACES, with_racecheck),
    ):  # fmt: skip
        if part not in options.only:
            continue
        results, failed = watched(name, over, by)
        rows = [r for one in results for r in (one if isinstance(one, list) else [one])]
        table[part], table["left_out"] = rows, table["left_out"] + failed
        for one in rows:
            print("  ".join(f"{key} {value}" for key, value in one.items()))
        code |= not options.quick and not all(one["pass"] for one in rows)
    for line in table["left_out"]:
        print(f"left out: {line}")
    return table, int(code)


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    if TOOLKIT.is_dir():
        os.environ.setdefault("CUDA_PATH", str(TOOLKIT))  # its headers stand in for wheels that are missing
    where = machine()
    try:
        gpu = there()
    except RuntimeError as reason:
        code = in_peers_environment(sys.argv[1:] if arguments is None else arguments)
        if code is not None:
            return code
        said = str(reason).partition(";")[0]
        print(f"{said}. What needs none:")
        table: dict[str, Any] = {"rows": [], "left_out": [said], "without_gpu": without_gpu()}
        code = 0
    else:
        where = f"{where}; {gpu.name}"
        table, code = with_gpu(gpu, options)
    table = {"machine": where, "date": options.date.isoformat(), **table}
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
