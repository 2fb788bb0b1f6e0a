"""What every benchmark shares: CPU seconds of a command, ratios with their spread, the table.

CPU time, not wall time: another process on the machine slows both sides but is charged to neither. Where the
kernel lets us make a cpuacct control group, that counts every descendant; elsewhere the usage of waited-for
children does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CPUACCT = Path("/sys/fs/cgroup/cpuacct")


@dataclass(frozen=True)
class Row:
    """One comparison: `ratio` = ours / peer of a cost, below 1 is better; `bar` is what it may be at most."""

    case: str
    peer_name: str
    ours: float
    peer: float
    ratio_median: float
    ratio_min: float
    ratio_max: float
    unit: str
    runs: int
    bar: float | None
    passed: bool

    def as_json(self) -> dict[str, Any]:
        table = asdict(self)
        table["pass"] = table.pop("passed")
        return table


def row(
    case: str, peer_name: str, ours: Sequence[float], peer: Sequence[float], unit: str, bar: float | None
) -> Row:
    """Pair runs that were taken in turn, and take the median and the spread of their ratios."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    middle = statistics.median(ratios)
    return Row(
        case=case,
        peer_name=peer_name,
        ours=statistics.median(ours),
        peer=statistics.median(peer),
        ratio_median=middle,
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        unit=unit,
        runs=len(ratios),
        bar=bar,
        passed=bar is None or middle <= bar,
    )


def cpu_seconds(command: Sequence[str], *, cwd: Path, environ: Mapping[str, str] | None = None) -> float:
    """Run a command to its end and return the CPU seconds that it and all its descendants used.

    Raises:
        RuntimeError: the command failed; a benchmark of a failing peer says nothing.
    """
    group = CPUACCT / f"mlsys-lab-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        return _waited_for(command, cwd, environ)
    try:
        enter = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *command]
        _run(enter, cwd, environ)
        return int((group / "cpuacct.usage").read_text()) / 1e9
    finally:
        group.rmdir()


def _waited_for(command: Sequence[str], cwd: Path, environ: Mapping[str, str] | None) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _run(command, cwd, environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _run(command: Sequence[str], cwd: Path, environ: Mapping[str, str] | None) -> None:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(environ or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise RuntimeError(f"{' '.join(map(str, command))[:200]} failed:\n{last}")


def peers_environment(area: str) -> Path:
    """The folder of programs of the peers' environment, made on first use from requirements-AREA.txt."""
    folder = ROOT / ".venv-bench" / area
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    requirements = ROOT / "benchmarks" / f"requirements-{area}.txt"
    stamp = folder / "requirements.txt"
    if not stamp.is_file() or stamp.read_text() != requirements.read_text():
        print(f"Making {folder.relative_to(ROOT)} for the peers (once) ...", file=sys.stderr)
        venv.create(folder, with_pip=True)
        install = [str(programs / "python"), "-m", "pip", "install", "--quiet", "-r", str(requirements)]
        subprocess.run(install, check=True)
        stamp.write_text(requirements.read_text())
    return programs


def arguments(description: str, *, threads: bool = False) -> argparse.Namespace:
    """The options of every benchmark; `threads` adds --threads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table there")
    parser.add_argument(
        "--quick", action="store_true", help="one small round, to see that it runs; judges nothing"
    )
    if threads:
        parser.add_argument("--threads", type=int, default=1, metavar="N", help="of every library; 1 judges")
    return parser.parse_args()


def report(
    rows: Sequence[Row], options: argparse.Namespace, *, about: str = "", left_out: Sequence[str] = ()
) -> int:
    """Print the table, write the JSON, return the exit code: 1 where a bar is missed.

    Args:
        rows: what was measured.
        options: from `arguments`.
        about: added to the machine's line.
        left_out: what could not be measured here, with the reason.
    """
    where = f"{machine()}; {about}" if about else machine()
    print(f"{'case':38} {'peer':18} {'ours':>9} {'peer':>9} {'ratio':>7}  {'spread':15} {'bar':>5}")
    for r in rows:
        bar = "" if r.bar is None else f"{r.bar:g}"
        verdict = "" if r.bar is None or options.quick else ("  ok" if r.passed else "  MISSED")
        spread = f"{r.ratio_min:.3f}-{r.ratio_max:.3f}"
        print(
            f"{r.case:38} {r.peer_name:18} {r.ours:9.3f} {r.peer:9.3f} {r.ratio_median:7.3f}  {spread:15} "
            f"{bar:>5}{verdict}"
        )
    print(f"unit: {rows[0].unit}; up to {rows[0].runs} rounds in turn; {where}")
    for line in left_out:
        print(f"left out: {line}")
    if options.json:
        table = {"machine": where, "date": date.today().isoformat(), "rows": [r.as_json() for r in rows]}
        if left_out:
            table["left_out"] = list(left_out)
        options.json.write_text(json.dumps(table, indent=1) + "\n")
    return 0 if options.quick or all(r.passed for r in rows) else 1


def machine() -> str:
    """This machine in one line, without its name."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [x.partition(":")[2].strip() for x in cpuinfo.read_text().splitlines() if "model name" in x]
        model = lines[0] if lines else model
    return f"{os.cpu_count()} x {model}, {platform.system()}, Python {platform.python_version()}"
