"""How much memory a sandboxed kernel and all that it started hold: a limit per process cannot add them up."""

from __future__ import annotations

import os
import re
from pathlib import Path


def resident_mb(pidfd: int) -> float:
    """Memory of every process in the pid namespace of this one, in MiB.

    A page that several share counts for each by its share (proc(5): Pss).

    Args:
        pidfd: of the first process of the namespace.

    Returns:
        0.0 where it has ended or shares this process's own namespace.
    """
    found = re.search(r"^Pid:\s+(\d+)$", Path(f"/proc/self/fdinfo/{pidfd}").read_text(), re.MULTILINE)
    own, theirs = _namespace("self"), _namespace(found[1]) if found else None
    if theirs is None or theirs == own:
        return 0.0
    inside = (path for path in Path("/proc").glob("[0-9]*") if _namespace(path.name) == theirs)
    return sum(map(_share_kib, inside)) / 1024


def _share_kib(process: Path) -> int:
    try:
        found = re.search(r"^Pss:\s+(\d+) kB$", (process / "smaps_rollup").read_text(), re.MULTILINE)
    except OSError:  # it ended meanwhile
        return 0
    return int(found[1]) if found else 0


def _namespace(pid: str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None
