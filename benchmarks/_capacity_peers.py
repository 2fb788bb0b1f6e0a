"""The same rows by llm-analysis, accelerate and calflops, each in the environment that it asks for."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _capacity_models import NotApplicable, config_of
from measure import peers_environment

HERE = Path(__file__).resolve().parent
CHILDREN = {"capacity-llm": "_capacity_llm_analysis.py", "capacity": "_capacity_hub.py"}
Answers = dict[str, dict[str, Any]]


def answers(rows: Sequence[dict[str, str]]) -> dict[str, Answers]:
    """What each peer says to each row: {"value": number} or {"why": reason}, by peer and row."""
    asked = [question(row) for row in rows]
    found: dict[str, Answers] = {}
    for area, script in CHILDREN.items():
        done = subprocess.run(
            [str(peers_environment(area) / "python"), "-P", str(HERE / script)],  # -P: no kernels.py of ours
            input=json.dumps(asked), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{script} failed:\n{done.stderr[-2000:]}")
        found |= json.loads(done.stdout)
    return found


def question(row: dict[str, str]) -> dict[str, Any]:
    """A row for a peer: its inputs, and a config.json where it is about a model of language."""
    inputs = json.loads(row["inputs"])
    asked = {"id": row["id"], "quantity": row["quantity"], "inputs": inputs}
    if row["quantity"] == "param_count" and "classes" not in inputs:
        with contextlib.suppress(NotApplicable):
            asked["config"] = config_of(inputs)
    return asked


def passes(value: float, row: dict[str, str]) -> bool:
    """The bar of a row without an interval: equal where `tol_rel` is 0, else within it."""
    published, tolerance = float(row["value"]), float(row["tol_rel"])
    error = abs(value - published) / abs(published)
    return error < 1e-12 if tolerance == 0 else error <= tolerance


def show(rows: Sequence[dict[str, str]], ours: dict[str, float | None], peers: dict[str, Answers]) -> None:
    """Rows that a peer answers, ours beside it; then how often each is within the row's tolerance."""
    print(f"\n{'row':5} {'quantity':25} {'subject':30} {'published':>16}  error of ours, " + ", ".join(peers))
    for row in rows:
        said = [peers[peer][row["id"]].get("value") for peer in peers]
        if any(value is not None for value in said):
            errors = " ".join(f"{error(value, row):>9}" for value in (ours[row["id"]], *said))
            print(
                f"{row['id']:5} {row['quantity']:25} {row['subject'][:30]:30} "
                f"{float(row['value']):>16.10g}  {errors}"
            )
    print(f"\n{'peer':13} rows  within: the peer, ours  median error: the peer, ours")
    for peer, by_row in peers.items():
        both = [row for row in rows if "value" in by_row[row["id"]] and ours[row["id"]] is not None]
        theirs = [by_row[row["id"]]["value"] for row in both]
        mine = [ours[row["id"]] or 0.0 for row in both]
        within = [
            sum(passes(v, row) for v, row in zip(values, both, strict=True)) for values in (theirs, mine)
        ]
        middle = [
            statistics.median(abs(v / float(row["value"]) - 1) for v, row in zip(values, both, strict=True))
            for values in (theirs, mine)
        ]
        print(
            f"{peer:13} {len(both):4}  {within[0]:>16}, {within[1]:<4}  {middle[0]:>21.2%}, {middle[1]:.2%}"
        )


def error(value: float | None, row: dict[str, str]) -> str:
    if value is None:
        return "-"
    relative = value / float(row["value"]) - 1
    return "0" if relative == 0 else f"{relative:+.1e}" if abs(relative) < 1e-4 else f"{relative:+.2%}"
