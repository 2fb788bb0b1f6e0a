"""What this machine has, and what grading can promise on it: `mlsys-lab doctor`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from autograder import promises
from autograder.machine import describe
from autograder.sandbox import available

#: What each door of the course needs installed.
NEEDS = {
    "learn": ("jupyterlab", "jupytext", "nbclient", "scikit-learn"),
    "teach": ("pytest", "nbval", "ipykernel", "scikit-learn"),
}


def examine(*, as_json: bool, say: Callable[[str], Any]) -> int:
    """Say what is here, which sandbox levels work, and what the best of them holds when tried.

    Args:
        as_json: one JSON document instead of lines.
        say: told a line at a time.

    Returns:
        Exit code: 0 when a sandbox works, 1 when the work of others could not be graded safely here.
    """
    levels = available()
    usable = [s.level for s in levels if s.usable and s.level != "none"]
    tried = {s.level: promises.table(s.level) for s in levels if s.usable}
    packages = {name: _version(name) for names in NEEDS.values() for name in names}
    browser = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), "")
    if as_json:
        findings = {
            "machine": describe(),
            "packages": packages,
            "browser": browser,
            "levels": [{"level": s.level, "usable": s.usable, "why": s.why} for s in levels],
            "promises": {
                level: [{"id": r.id, "claim": r.claim, "held": r.held, "why": r.why} for r in rows]
                for level, rows in tried.items()
            },
        }
        say(json.dumps(findings, indent=1))
        return 0 if usable else 1
    say(f"Machine: {describe()}")
    for door, names in NEEDS.items():
        missing = [n for n in names if packages[n] is None]
        say(
            f"To {door}: "
            + (f"missing {', '.join(missing)} (lab.py installs what is missing)" if missing else "complete")
        )
    say(f"Browser for the browser tests: {browser or 'none found (Debian: apt-get install chromium)'}")
    say("Sandbox levels:")
    for status in levels:
        say(f"  {'works' if status.usable else 'no   '}  {status.level}: {status.why}")
    say("Promises, each tried just now by running code that tries to break it:")
    for line in promise_lines(tried):
        say(f"  {line}")
    return 0 if usable else 1


def promise_lines(tried: Mapping[str, Sequence[promises.Row]]) -> list[str]:
    """The table of promises as text: a column per level, and why where one is not held."""
    widths = {level: max(len(level), len("not tried")) for level in tried}
    lines = ["  ".join(level.ljust(width) for level, width in widths.items())]
    for rows in zip(*tried.values(), strict=True):
        cells = [_held(row).ljust(width) for row, width in zip(rows, widths.values(), strict=True)]
        broken = [row.why for row in rows if _held(row) == "NOT held"]
        lines.append("  ".join([*cells, rows[0].claim + (f" ({broken[0]})" if broken else "")]))
    reasons = dict.fromkeys(row.why for rows in tried.values() for row in rows if _held(row) == "not tried")
    return [*lines, *reasons]


def _held(row: promises.Row) -> str:
    return "held" if row.held else "not tried" if row.why.startswith("not tried") else "NOT held"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
