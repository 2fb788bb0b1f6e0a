"""What the kernel knows of a sandboxed process: the memory of all it started, its time in the run queue.

A limit on memory per process cannot add them up; one on time would charge a submission for its neighbours.
"""

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
    pid = _pid(pidfd)
    own, theirs = _namespace("self"), _namespace(pid) if pid else None
    if theirs is None or theirs == own:
        return 0.0
    inside = (path for path in Path("/proc").glob("[0-9]*") if _namespace(path.name) == theirs)
    return sum(map(_share_kib, inside)) / 1024


def queued_s(pidfd: int) -> float:
    """Seconds that the main thread of a process was ready to run while others had the processors.

    Returns:
        0.0 where the process has ended or the kernel does not count it (proc(5): schedstat).
    """
    try:
        return int(Path(f"/proc/{_pid(pidfd)}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _pid(pidfd: int) -> str | None:
    found = re.search(r"^Pid:\s+(\d+)$", Path(f"/proc/self/fdinfo/{pidfd}").read_text(), re.MULTILINE)
    return found[1] if found else None


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
