"""The PTX machine against the simulators of numba and of the package mlsys-lab: CPU time of a launch.

Compilation is excluded on all sides; ours runs with every analysis on (sectors, bank conflicts, races,
bounds). Each side takes its turn in every round, the peers in processes of their own. Triton's interpreter is
reported beside them: it runs a whole block as one array, without threads, and has no bar.

    python benchmarks/kernels.py [--quick] [--json FILE]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from _kernels_ours import Case, large, simple
from measure import Row, arguments, peers_environment, report, row

HERE = Path(__file__).resolve().parent
PEERS: dict[str, tuple[str, float | None]] = {
    "numba's simulator": ("numba", 1 / 100),
    "mlsys-lab 0.4": ("mlsys", 1 / 40),
    "Triton interpreter": ("triton", None),
}
LIMIT_S = 1.0  # of one launch of the larger kernels


class Peer:
    """A simulator in a process of its own."""

    def __init__(self, programs: Path, name: str) -> None:
        command = [str(programs / "python"), str(HERE / "_kernels_peer.py"), name]
        self.process = subprocess.Popen(
            command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def run(self, case: str, threads: int) -> tuple[float, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"case": case, "threads": threads}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a peer's process ended: run it by hand to see why")
        found = json.loads(line)
        return float(found["cpu"]), float(found["total"])


def not_run(programs: Path, *modules: str) -> str:
    """Why a peer that is only reported cannot run here; "" where it can."""
    command = [str(programs / "python"), "-c", f"import {', '.join(modules)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stderr.strip().splitlines() or ["it ended"])[-1] if done.returncode else ""


def beside(peers: dict[str, Peer], case: str, threads: int, rounds: int, judged: bool) -> list[Row]:
    """One case on all sides; the results have to agree."""
    ours = simple(case, threads)
    wanted = 2.0 * threads if case == "vector add" else float(threads)
    repeat = max(1, 4096 // threads)
    mine, theirs = [], {name: list[float]() for name in peers}
    ours.run()
    for peer in peers.values():
        peer.run(case, 32)  # compiles
    for _ in range(rounds):
        mine.append(sum(ours.run() for _ in range(repeat)) / repeat)
        result = ours.arguments[2 if case == "vector add" else 1]
        assert float(result.sum()) == wanted
        for name, peer in peers.items():
            cost, total = peer.run(case, threads)
            assert total == wanted, f"{name} computes {total}, not {wanted}"
            theirs[name].append(cost)
    bars = judged and threads == 65_536
    return [
        row(f"{case}, {threads:,} threads", n, mine, c, "CPU s", PEERS[n][1] if bars else None)
        for n, c in theirs.items()
    ]


def alone(name: str, case: Case, wanted: np.ndarray, rounds: int, judged: bool) -> Row:
    """A larger kernel of ours against the limit."""
    case.run()
    costs = [case.run() for _ in range(rounds)]
    np.testing.assert_allclose(case.arguments[-2], wanted, rtol=2e-5, atol=1e-6)
    return row(name, "limit of 1 CPU s", costs, [LIMIT_S] * rounds, "CPU s", 1.0 if judged else None)


def main() -> int:
    options = arguments(__doc__ or "")
    programs = peers_environment("kernels")
    reason = not_run(programs, "torch", "triton")
    left_out = [f"Triton's interpreter: not run: {reason}"] if reason else []
    peers = {n: Peer(programs, word) for n, (word, _) in PEERS.items() if not (reason and word == "triton")}
    rounds, judged = (1, False) if options.quick else (5, True)
    rows: list[Row] = []
    try:
        for case in ("vector add", "block sum"):
            for threads in (32, 1024, 8192) if options.quick else (32, 1024, 8192, 65_536):
                print(f"{case}, {threads:,} threads ...", file=sys.stderr)
                rows += beside(peers, case, threads, rounds, judged)
        rows += [alone(name, *found, rounds, judged) for name, found in large().items()]
        return report(rows, options, left_out=left_out)
    finally:
        for peer in peers.values():
            peer.process.kill()
            peer.process.wait()


if __name__ == "__main__":
    sys.exit(main())
