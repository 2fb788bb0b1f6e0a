"""What this machine has, and what grading can promise on it: `mlsys-lab doctor`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
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
    usable = [s for s in levels if s.usable and s.level != "none"]
    best = usable[0].level if usable else "none"
    rows = promises.table(best)
    packages = {name: _version(name) for names in NEEDS.values() for name in names}
    browser = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), "")
    if as_json:
        findings = {
            "machine": describe(),
            "packages": packages,
            "browser": browser,
            "levels": [{"level": s.level, "usable": s.usable, "why": s.why} for s in levels],
            "promises": [{"id": r.id, "claim": r.claim, "held": r.held, "why": r.why} for r in rows],
        }
        say(json.dumps(findings, indent=1))
        return 0 if usable else 1
    say(f"Machine: {describe()}")
    for door, names in NEEDS.items():
        missing = [n for n in names if packages[n] is None]
        say(
            f"To {door}: "
            + (f"missing {', '.join(missing)} (lab.py installs them)" if missing else "complete")
        )
    say(f"Browser for the browser tests: {browser or 'none found (Debian: apt-get install chromium)'}")
    say("Sandbox levels:")
    for status in levels:
        say(f"  {'works' if status.usable else 'no   '}  {status.level}: {status.why}")
    say(f"Promises at level {best}, each tried just now:")
    for row in rows:
        say(f"  {'held    ' if row.held else 'NOT held'}  {row.claim}" + (f" ({row.why})" if row.why else ""))
    return 0 if usable else 1


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
