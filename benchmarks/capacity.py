"""Every published figure of capacity_published.csv against ours: value, error, tolerance, pass or why not
applicable.

Nothing is looked up that is to be computed: `_capacity_rows.py` turns a row's inputs into calls of the
library. Calibrated rows are estimated without their own model family and pass when the published value lies
in the interval.

    python benchmarks/capacity.py [--quick] [--json FILE]
    python benchmarks/capacity.py --peers      the same rows by llm-analysis, accelerate and calflops
    python benchmarks/capacity.py --machine    steps of networks on this machine, the course's own GPT among
                                               them, predicted and run
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import _capacity_peers
from _capacity_rows import Answer, NotApplicable, answer
from measure import machine

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Check:
    """One row: ours against the published value. `passed` is None where the row does not apply."""

    id: str
    kind: str
    category: str
    quantity: str
    subject: str
    ours: float | None
    low: float | None
    high: float | None
    published: float
    error: float | None
    tolerance: float
    basis: str
    passed: bool | None
    to_printed_digits: bool
    reason: str

    def as_json(self) -> dict[str, Any]:
        table = asdict(self)
        table["pass"] = table.pop("passed")
        return table


def check(row: dict[str, str]) -> Check:
    """A row of the table, answered by the library."""
    published, tolerance = float(row["value"]), float(row["tol_rel"])
    try:
        found = answer(row)
    except NotApplicable as why:
        found = Answer(None, reason=str(why))
    except (KeyError, ValueError) as why:
        found = Answer(None, reason=f"inputs of this row are not understood: {why!r}")
    ours, error, passed, printed, reason = found.value, None, None, False, found.reason
    if ours is not None:
        error = (ours - published) / published if published else float(ours != 0)
        exact = int(ours) == ours == published or abs(error) < 1e-12
        passed = exact if tolerance == 0 else abs(error) <= tolerance
        if found.low is not None and found.high is not None:
            passed = found.low <= published <= found.high
        printed = passed is False and float(f"{ours:.{digits(published)}g}") == published
        if printed:
            reason = (
                f"ours rounds to the {digits(published)} digits published, than which tol_rel is narrower"
            )
    return Check(
        row["id"], row["kind"], row["category"], row["quantity"], row["subject"], ours, found.low, found.high,
        published, error, tolerance, found.basis, passed, printed, reason,
    )  # fmt: skip


def digits(published: float) -> int:
    """Significant digits of a published figure."""
    return max(len(f"{published:.12e}".partition("e")[0].replace(".", "").rstrip("0")), 2)


def show(checks: list[Check]) -> None:
    for c in checks:
        verdict = {True: "pass", False: "FAIL", None: "n/a"}[c.passed]
        ours = "-" if c.ours is None else f"{c.ours:.13g}"
        error = "" if c.error is None else f"{c.error:+.2%}"
        between = "" if c.low is None else f"[{c.low:.4g}, {c.high:.4g}] "
        print(
            f"{c.id} {verdict:4} {c.category:13} {c.quantity:25} {c.subject[:30]:30} {ours:>16} "
            f"{c.published:>16.13g} {error:>9} of {c.tolerance:<6g} {between}{c.reason}"
        )


def summary(checks: list[Check]) -> None:
    print("\nkind        category       rows  applicable  passed")
    for kind in ("computed", "calibrated", "looked_up"):
        of_kind = [c for c in checks if c.kind == kind]
        for category in sorted({c.category for c in of_kind}):
            rows = [c for c in of_kind if c.category == category]
            counted = [c for c in rows if c.passed is not None]
            passed = sum(bool(c.passed) for c in counted)
            print(f"{kind:11} {category:13} {len(rows):5} {len(counted):11} {passed:7}")
        counted = [c for c in of_kind if c.passed is not None]
        rate = sum(bool(c.passed) for c in counted) / len(counted) if counted else 0.0
        note = " (look-ups show that the table is right, no more)" if kind == "looked_up" else ""
        print(f"{kind:11} all           {len(of_kind):5} {len(counted):11}   {rate:.0%}{note}\n")
    wide = [c for c in checks if c.low is not None and c.high is not None and c.low > 0]
    held = [c for c in wide if c.passed]
    near = [c for c in wide if c.error is not None and abs(c.error) <= c.tolerance]
    ratio = statistics.fmean((c.high or 0) / (c.low or 1) for c in wide)
    print(
        f"intervals: {len(held)} of {len(wide)} published values inside, mean high/low {ratio:.2f}; "
        f"the middle within tol_rel on {len(near)} of {len(wide)}"
    )
    rounded = [c.id for c in checks if c.to_printed_digits]
    print(f"outside tol_rel and yet equal to the digits published: {', '.join(rounded) or 'none'}")


def missed(checks: list[Check]) -> bool:
    """The bars: values within tol_rel or the digits printed; intervals cover 80 % at a mean ratio of 3."""
    wide = [c for c in checks if c.low is not None and c.high is not None and c.low > 0]
    ratio = statistics.fmean((c.high or 0) / (c.low or 1) for c in wide) if wide else 1.0
    covered = statistics.fmean(bool(c.passed) for c in wide) if wide else 1.0
    exact = [c for c in checks if c.low is None and c.passed is False and not c.to_printed_digits]
    return bool(exact) or ratio > 3 or covered < 0.8


def on_this_machine(options: argparse.Namespace) -> int:
    """Steps of three networks and of the course's own GPT: predicted from single operations, and run."""
    from _capacity_machine import measured_machine, steps
    from _capacity_own import own_steps

    here = measured_machine(lambda name: print(f"measuring {name}", file=sys.stderr))
    rows = [*steps(here), *own_steps(here)]
    peaks = ", ".join(f"{name} {speed / 1e9:.0f} GFLOP/s" for name, speed in here.peak_flops.items())
    levels = ", ".join(f"{name} {speed / 1e9:.0f} GB/s" for name, speed in here.bandwidth.items())
    print(f"{here.name}, one thread: {peaks}; {levels}")
    print(f"{'step':40} {'predicted':>10} {'measured':>10} {'ratio':>7}  spread")
    for row in rows:
        print(
            f"{row['case']:40} {row['ours'] * 1e3:7.2f} ms {row['peer'] * 1e3:7.2f} ms "
            f"{row['ratio_median']:7.3f}  {row['ratio_min']:.3f}-{row['ratio_max']:.3f}"
            f"{verdict(row['pass']) if not options.quick else ''}"
        )
    if options.json:
        found = {"machine": machine(), "date": date.today().isoformat(), "rows": rows}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(not options.quick and any(row["pass"] is False for row in rows))


def verdict(passed: bool | None) -> str:
    """Of a bar; None where there is none."""
    return "  not judged" if passed is None else "  ok" if passed else "  MISSED"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="never judges")
    parser.add_argument(
        "--table", type=Path, default=HERE / "capacity_published.csv", help="another table of this form"
    )
    parser.add_argument(
        "--machine", action="store_true", help="predict steps on this machine instead, and run them"
    )
    parser.add_argument("--peers", action="store_true", help="also what llm-analysis and others say")
    options = parser.parse_args()
    if options.machine:
        return on_this_machine(options)
    with options.table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    checks = [check(row) for row in rows]
    show(checks)
    summary(checks)
    peers: dict[str, _capacity_peers.Answers] = {}
    if options.peers:
        estimated = [row for row in rows if row["kind"] != "looked_up"]
        peers = _capacity_peers.answers(estimated)
        _capacity_peers.show(estimated, {c.id: c.ours for c in checks}, peers)
    if options.json:
        found = {
            "machine": machine(),
            "date": date.today().isoformat(),
            "checks": [c.as_json() for c in checks],
            "peers": peers,
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return int(not options.quick and missed(checks))


if __name__ == "__main__":
    sys.exit(main())
