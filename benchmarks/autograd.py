"""Training steps of ours against torch, jax, tinygrad and HIPS autograd: CPU time per step, as a ratio.

Each side runs in a process of its own and takes its turn in every round; all start from the same weights,
and their first losses have to agree. With one thread the cost is CPU time and the bars judge; with more it is
wall time and they do not. The peers' environment is made on first use.

    python benchmarks/autograd.py [--quick] [--json FILE] [--threads N]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from _autograd_work import CHAIN, GPT, MLP, Work
from measure import Row, arguments, peers_environment, report, row

HERE = Path(__file__).resolve().parent
TURN_S, PATIENCE_S = 0.25, 400.0  # cost of one side's turn; how long its first steps may take
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
KERNEL_VARIABLES = (
    *("OPENBLAS_CORETYPE", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"),
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"),
)

# side: module and arguments
SIDES = {
    "ours, NumPy's BLAS": "_autograd_ours numpy",
    "ours, native": "_autograd_ours native",
    "ours, mkl": "_autograd_ours mkl",
    "ours, torch's": "_autograd_ours torch",
    "ours, bf16": "_autograd_ours torch bf16",
    "ours, Haswell kernels": "_autograd_ours numpy",
    "products alone, NumPy's BLAS": "_autograd_ours numpy alone",
    "products alone, native": "_autograd_ours native alone",
    "products alone, mkl": "_autograd_ours mkl alone",
    "products alone, torch's": "_autograd_ours torch alone",
    "torch": "_autograd_torch eager",
    "torch fused=True": "_autograd_torch fused",
    "torch autocast bf16": "_autograd_torch autocast",
    "torch.compile": "_autograd_torch compile",
    "jax.jit": "_autograd_jax",
    "HIPS autograd": "_autograd_hips",
    "tinygrad TinyJit": "_autograd_tinygrad",
}
# workload -> side -> bar against torch eager. The chain has no products, so the provider does not matter;
# a captured chain comes with `compile`.
BARS: dict[Work, dict[str, float | None]] = {
    MLP: {"ours, NumPy's BLAS": 0.70, "ours, native": None, "ours, mkl": 0.55, "ours, torch's": None},
    GPT: {"ours, NumPy's BLAS": 0.82, "ours, native": None, "ours, mkl": 0.70, "ours, torch's": None},
    CHAIN: {"ours, NumPy's BLAS": 0.40},
}
# A step's matrix products and nothing else: what no engine on the same provider can go below.
ALONE = tuple(name for name in SIDES if name.startswith("products alone"))
PEERS = ("torch fused=True", "torch.compile", "jax.jit", "HIPS autograd", "tinygrad TinyJit")
GROWTH = (
    *(replace(MLP, batch=n) for n in (16, 256)),
    *(replace(MLP, width=n) for n in (64, 1024)),
    *(replace(GPT, batch=n) for n in (1, 32)),
    *(replace(GPT, width=n) for n in (64, 256)),
    *(replace(GPT, positions=n) for n in (16, 256)),
    *(replace(GPT, depth=n) for n in (1, 8)),
    *(replace(CHAIN, length=n) for n in (100, 10_000)),
)


class Absent(Exception):
    """A side that cannot run a workload here; says why."""


class Side:
    """One side in a process of its own."""

    def __init__(self, name: str, programs: Path, threads: int) -> None:
        # Each BLAS chooses its kernels by itself, whatever the machine's environment says.
        environ = {k: v for k, v in os.environ.items() if k not in KERNEL_VARIABLES}
        environ |= dict.fromkeys(THREAD_VARIABLES, str(threads))
        environ |= {"DEV": "CPU", "JAX_PLATFORMS": "cpu"}  # tinygrad's and jax's choice of a device
        if threads == 1:
            environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        if name == "ours, Haswell kernels":
            environ["OPENBLAS_CORETYPE"] = "Haswell"
        command = [programs / "python", HERE / "_autograd_child.py", *SIDES[name].split(), str(threads)]
        self.name, self.threads, self.steps = name, threads, dict[Work, int]()
        self.first: dict[Work, list[float]] = {}
        self.process = subprocess.Popen(
            command, env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.about = self.answer().get("about", "")

    def answer(self) -> dict[str, object]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise Absent(f"{self.name}: its process ended, as when it is not installed")
        found: dict[str, object] = json.loads(line)
        return found

    def run(self, work: Work, count: int) -> tuple[float, list[float]]:
        """Take steps: their cost in seconds each, and the first losses."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({**asdict(work), "count": count}) + "\n")
        self.process.stdin.flush()
        found = self.answer()
        if "error" in found:
            raise Absent(f"{self.name}, {work.name}: {found['error']}")
        cost = float(found["cpu" if self.threads == 1 else "wall"]) / count  # type: ignore[arg-type]
        return cost, found["losses"]  # type: ignore[return-value]

    def warm(self, work: Work) -> list[float]:
        """Run until it is up to speed, choose how many steps make a turn; the first losses."""
        if work not in self.first:
            _, self.first[work] = self.run(work, 3)
            cost, _ = self.run(work, 3)
            self.steps[work] = max(1, min(2000, round(TURN_S / cost)))
        return self.first[work]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Bench:
    """The sides, started as they are asked for, and what could not be measured."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.programs, self.options = peers_environment("autograd"), options
        self.rounds = 1 if options.quick else 11
        self.sides: dict[str, Side | None] = {}
        self.left_out: list[str] = []

    def side(self, name: str) -> Side | None:
        if name not in self.sides:
            try:
                self.sides[name] = Side(name, self.programs, self.options.threads)
            except Absent as reason:
                self.left_out.append(str(reason))
                self.sides[name] = None
        return self.sides[name]

    def compare(self, work: Work, names: Iterable[str], against: str = "torch") -> dict[str, list[float]]:
        """Costs per step of each side, in rounds; `against` is among them."""
        print(f"{work.name} ...", file=sys.stderr)
        costs: dict[str, list[float]] = {}
        reference = self.require(against).warm(work)
        for name in names:
            if (side := self.side(name)) is None:
                continue
            try:
                losses = side.warm(work)
            except Absent as reason:
                self.left_out.append(str(reason))
                continue
            near = 0.02 if "bf16" in name + against else 1e-3
            assert all(abs(a - b) <= near * abs(b) + 1e-4 for a, b in zip(losses, reference, strict=True)), (
                f"{name} computes something else on {work.name}: {losses}, torch {reference}"
            )
            costs[name] = []
        costs[against] = []
        for _ in range(self.rounds):
            for name, found in costs.items():
                side = self.require(name)
                found.append(1e3 * side.run(work, side.steps[work])[0])
        return costs

    def require(self, name: str) -> Side:
        side = self.side(name)
        if side is None:
            raise SystemExit(f"{name} is needed: {self.left_out[-1]}")
        return side

    def rows(self) -> list[Row]:
        unit = "CPU ms/step" if self.options.threads == 1 else "wall ms/step"
        judged = self.options.threads == 1
        rows = []
        for work, bars in BARS.items():
            extra = ["ours, Haswell kernels"] if "avx512f" in processor() and work is not CHAIN else []
            peers = [p for p in PEERS if not (p.startswith("tinygrad") and work is CHAIN)]
            peers = [
                p for p in peers if not (self.options.quick and p in ("torch.compile", "tinygrad TinyJit"))
            ]
            alone = ALONE if work is not CHAIN else ()
            costs = self.compare(work, [*bars, *extra, *alone, *peers])
            mine = [n for n in costs if n.startswith("ours")]
            for name in mine:
                bar = bars.get(name) if judged else None
                rows.append(row(f"{work.kind}: {name}", "torch", costs[name], costs["torch"], unit, bar))
            for floor in (name for name in alone if name in costs):
                name = floor.replace("products alone", "ours")
                rows.append(
                    row(f"{work.kind}: {name}", "its products alone", costs[name], costs[floor], unit, None)
                )
                rows.append(row(f"{work.kind}: {floor}", "torch", costs[floor], costs["torch"], unit, None))
            for peer in (p for p in peers if p in costs):
                for name in [n for n in mine if n in ("ours, NumPy's BLAS", "ours, native")]:
                    rows.append(row(f"{work.kind}: {name}", peer, costs[name], costs[peer], unit, None))
        rows += self.bfloat16(unit, judged)
        for work in () if self.options.quick else GROWTH:
            costs = self.compare(
                work, ["ours, NumPy's BLAS", "ours, native"][: 1 if work.kind == "chain" else 2]
            )
            rows += [
                row(f"{work.name}: {n}", "torch", costs[n], costs["torch"], unit, None)
                for n in costs
                if n != "torch"
            ]
        return rows

    def bfloat16(self, unit: str, judged: bool) -> list[Row]:
        """Mixed precision, on a processor that multiplies bfloat16."""
        if not {"avx512_bf16", "amx_bf16"} & processor():
            self.left_out.append("gpt in bf16: this processor has neither AVX512-BF16 nor AMX")
            return []
        name, peer = "ours, bf16", "torch autocast bf16"
        costs = self.compare(GPT, [name, "torch"], against=peer)
        return [
            row(f"gpt: {name}", peer, costs[name], costs[peer], unit, 1.0 if judged else None),
            row(f"gpt: {name}", "torch", costs[name], costs["torch"], unit, None),
        ]

    def stop(self) -> None:
        for side in self.sides.values():
            if side is not None:
                side.stop()


def processor() -> set[str]:
    """What this processor can do, as Linux names it; empty elsewhere."""
    info = Path("/proc/cpuinfo")
    flags = [x for x in info.read_text().splitlines() if x.startswith("flags")] if info.is_file() else []
    return set(flags[0].split()) if flags else set()


def main() -> int:
    options = arguments(__doc__ or "", threads=True)
    bench = Bench(options)
    try:
        rows = bench.rows()
        versions = dict.fromkeys(s.about for s in bench.sides.values() if s is not None)
        return report(rows, options, about="; ".join(versions), left_out=bench.left_out)
    finally:
        bench.stop()


if __name__ == "__main__":
    sys.exit(main())
