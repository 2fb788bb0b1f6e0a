"""Nsight Compute and compute-sanitizer beside our simulator: what to run, what they print, what agrees.

Formats: the source page of `ncu --csv` (NVIDIA's "Nsight Compute CLI", output pages) and the analysis report
of racecheck (NVIDIA's "Compute Sanitizer", racecheck tool).
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mlsys_lab.kernels import CudaKernel, references
from mlsys_lab.kernels.frontend import FILE, FOLDER
from mlsys_lab.kernels.launcher import file_of
from mlsys_lab.kernels.library import LADDER

HERE = Path(__file__).resolve().parent
CHILD = HERE / "_gpu_child.py"
#: Rungs whose machine code has the memory instructions of their PTX, one to one, with the sizes to count at.
FAIR: dict[str, tuple[int, ...]] = {
    "vector_add": (8192,),
    "vector_add_float4": (8192,),
    "copy": (8192,),
    "copy_strided": (32768,),
    "transpose_naive": (64, 96),
    "transpose_tiled": (64, 96),
    "transpose_padded": (64, 96),
    "matmul_naive": (64, 64, 64),
    "matmul_coalesced": (64, 64, 64),
}
#: A counter of a line: its column on ncu's source page.
COLUMNS = {"sectors": "L2 Theoretical Sectors Global", "conflicts": "L1 Wavefronts Shared Excessive"}
Counts = dict[int, dict[str, int]]

HEAD = """extern "C" __global__ void k(const float* x, float* y) {
    __shared__ float s[256];
    int t = threadIdx.x;
    s[t] = x[t];
"""
#: Kernels for racecheck, launched as one block of 256 threads: right ones, and each with what it lacks.
RACES = {
    "tree": HEAD + """    for (int half = 128; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) s[t] += s[t + half];
    }
    if (t == 0) y[0] = s[0];
}""",
    "tree without its barrier": HEAD + """    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (t < half) s[t] += s[t + half];
    }
    if (t == 0) y[0] = s[0];
}""",
    "neighbour": HEAD + """    __syncthreads();
    y[t] = s[(t + 1) % 256];
}""",
    "neighbour without its barrier": HEAD + """    y[t] = s[(t + 1) % 256];
}""",
    "all add to one": HEAD + """    __syncthreads();
    if (t > 0) atomicAdd(&s[0], s[t]);
    __syncthreads();
    y[t] = s[0];
}""",
    "all add to one without atomics": HEAD + """    __syncthreads();
    if (t > 0) s[0] += s[t];
    __syncthreads();
    y[t] = s[0];
}""",
}  # fmt: skip


def our_counts(rung: str) -> Counts:
    """Sectors, and wavefronts above the ideal, of each line that has some, from the simulator."""
    launches = LADDER[rung].run(*references.inputs(LADDER[rung].family, FAIR[rung]))[1]
    found: Counts = {}
    for report in launches.reports:
        for number, line in report.lines.items():
            sectors, conflicts = line.loads.sectors + line.stores.sectors, line.shared.conflicts
            if sectors or line.shared.requests:
                one = found.setdefault(number, dict.fromkeys(COLUMNS, 0))
                one["sectors"] += sectors
                one["conflicts"] += conflicts
    return found


def ncu_counts(text: str) -> Counts:
    """The same from ncu's source page, view "cuda,sass".

    A file's part begins with its path, a header names the columns; a row of the source has a line number and
    holds the sums of the machine instructions that follow it, which have an address instead.

    Raises:
        ValueError: there is no such page in the text.
    """
    found: Counts = {}
    header: list[str] = []
    ours, seen = False, False
    for row in csv.reader(io.StringIO(text)):
        if row[:1] == ["File Path"]:
            ours, header = Path(row[1]).name == FILE, []
        elif row[:1] == ["Line No"]:
            header, seen = row, True
        elif ours and header and len(row) == len(header) and row[0].strip().isdigit():
            cells = dict(zip(header, row, strict=True))
            one = {name: whole(cells.get(column, "")) for name, column in COLUMNS.items()}
            if any(one.values()):
                known = found.setdefault(int(row[0]), dict.fromkeys(COLUMNS, 0))
                found[int(row[0])] = {name: known[name] + one[name] for name in COLUMNS}
    if not seen:
        raise ValueError(f"ncu printed no source page: {' '.join(text.split())[-200:] or 'nothing'}")
    return found


def whole(cell: str) -> int:
    """A count as ncu prints it; blank or a dash is none."""
    digits = cell.replace(",", "").strip()
    return round(float(digits)) if re.fullmatch(r"\d+(\.\d+)?", digits) else 0


def compared(rung: str, ours: Counts, theirs: Counts) -> list[dict[str, Any]]:
    """A row per line and counter that either side counts."""
    return [
        {
            "kernel": rung, "line": line, "counter": name,
            "ours": ours.get(line, {}).get(name, 0), "ncu": theirs.get(line, {}).get(name, 0),
            "pass": ours.get(line, {}).get(name, 0) == theirs.get(line, {}).get(name, 0),
        }
        for line in sorted({*ours, *theirs})
        for name in COLUMNS
        if ours.get(line, {}).get(name, 0) or theirs.get(line, {}).get(name, 0)
    ]  # fmt: skip


def with_ncu(rung: str, folder: Path, ncu: str) -> list[dict[str, Any]]:
    """Profile a rung in a process of its own and compare.

    Raises:
        RuntimeError, ValueError: ncu fails, or prints something else.
    """
    (folder / FILE).write_text((FOLDER / f"{file_of(rung)}.cu").read_text("utf-8"), encoding="utf-8")
    report = folder / f"{rung}.ncu-rep"
    child = [sys.executable, str(CHILD), "rung", rung, *map(str, FAIR[rung])]
    # The clocks are left as they are: counts do not depend on them.
    profile = [ncu, "--section", "SourceCounters", "--import-source", "yes", "--source-folders", str(folder)]
    profile += [
        "--clock-control",
        "none",
        "--kernel-name",
        f"regex:{kernel_name(rung)}",
        "-f",
        "-o",
        str(report),
    ]
    run([*profile, *child], folder)
    page = [ncu, "--import", str(report), "--page", "source", "--print-source", "cuda,sass", "--csv"]
    return compared(rung, our_counts(rung), ncu_counts(run([*page, "--print-units", "base"], folder)))


def kernel_name(rung: str) -> str:
    """The kernel that a rung launches."""
    return "copy_strided" if rung == "copy" else rung


def our_races(source: str) -> list[tuple[int, ...]]:
    """Pairs of lines that race in shared memory, from the simulator."""
    y = np.zeros(256, np.float32)
    report = CudaKernel(source)[1, 256](np.ones(256, np.float32), y)
    assert report is not None
    return sorted({tuple(sorted(r.lines)) for r in report.races if r.space == "shared"})


def racecheck_races(text: str) -> list[tuple[int, ...]]:
    """The same from racecheck's analysis report: a first access, and those that it races with.

    Raises:
        ValueError: there is no report in the text.
    """
    if "RACECHECK SUMMARY" not in text:
        raise ValueError(f"racecheck printed no summary: {' '.join(text.split())[-200:] or 'nothing'}")
    found, first = set(), 0
    for line in text.splitlines():
        place = re.search(
            rf"(Race reported between|and) (?:Read|Write) access at .*?{re.escape(FILE)}:(\d+)", line
        )
        if place is None:
            continue
        if place[1] != "and":
            first = int(place[2])
        else:
            found.add(tuple(sorted((first, int(place[2])))))
    return sorted(found)


def with_racecheck(name: str, folder: Path, sanitizer: str) -> dict[str, Any]:
    """Check a kernel in a process of its own and compare: whether it races is what has to agree."""
    command = [sanitizer, "--tool", "racecheck", "--racecheck-report", "analysis", "--print-limit", "100"]
    theirs = racecheck_races(run([*command, sys.executable, str(CHILD), "race", name], folder))
    ours = our_races(RACES[name])
    return {"kernel": name, "ours": ours, "racecheck": theirs, "pass": bool(ours) == bool(theirs)}


def run(command: Iterable[str], folder: Path) -> str:
    """What a tool prints.

    Raises:
        RuntimeError: it fails; with the end of what it said.
    """
    done = subprocess.run(list(command), cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())[-300:]
        raise RuntimeError(f"{Path(next(iter(command))).name} ended with {done.returncode}: {said}")
    return done.stdout


def tool(name: str) -> str | None:
    """Where a tool of the CUDA toolkit lies, or None."""
    places = (f"/usr/local/cuda/bin/{name}", f"/opt/nvidia/nsight-compute/{name}")
    return shutil.which(name) or next((p for p in places if Path(p).is_file()), None)
