"""Which sandbox levels this machine can give: each is tried; an unusable one says what would help.

`fork_server.Sandbox` is the sandbox itself; `proxy.Worker` the conversation with one child of it.
"""

from __future__ import annotations

import functools
import os
import shutil
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from autograder import enclosure, landlock, seccomp
from autograder.assignment import Limits, UsageError
from autograder.enclosure import View
from autograder.errors import StudentError
from autograder.fork_server import LEVELS, KernelProcess, Sandbox, SandboxError, spare_uids

__all__ = [
    "LEVELS", "KernelProcess", "LevelStatus", "Sandbox", "SandboxError", "View", "available", "choose",
]  # fmt: skip

_APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_PROBE = """
import numpy
def reads(paths):
    found = []
    for path in paths:
        try:
            open(path).close()
            found.append(path)
        except OSError:
            pass
    import statistics, numpy.polynomial, sqlite3
    return found
"""


@dataclass(frozen=True)
class LevelStatus:
    """One level: does it work here, and in one line why, or what would make it work."""

    level: str
    usable: bool
    why: str


def available(secrets: tuple[Path, ...] = ()) -> list[LevelStatus]:
    """Every level, best first, each tried just now (once per process).

    Args:
        secrets: files that a child must not be able to read; by default one that every user may read, and one
            of this package's own.
    """
    return [_status(level, secrets) for level in LEVELS]


def choose(requested: str, secrets: tuple[Path, ...] = ()) -> str:
    """The level to grade at.

    Args:
        requested: one of `LEVELS`, or `auto` for the best that works here.
        secrets: as for `available`.

    Raises:
        UsageError: there is no such level, or it does not work here.
    """
    if requested == "auto":
        return next(level for level in LEVELS if level == "none" or _status(level, secrets).usable)
    if requested not in LEVELS:
        raise UsageError(f"there is no sandbox level {requested!r}: use auto, {', '.join(LEVELS)}")
    status = _status(requested, secrets)
    if not status.usable:
        raise UsageError(f"the sandbox level {requested} does not work here: {status.why}")
    return requested


@functools.cache
def _status(level: str, secrets: tuple[Path, ...]) -> LevelStatus:
    if sys.platform == "win32":
        return LevelStatus(level, False, "Windows has no fork server: grade in the devcontainer or in WSL2")
    missing = _missing(level)
    if missing:
        return LevelStatus(level, False, missing)
    if level == "none":
        return LevelStatus(
            level, True, "time, memory and output are limited; nothing is hidden from the code"
        )
    try:
        seen = _readable_inside(level, secrets)
    except (SandboxError, StudentError) as error:
        return LevelStatus(level, False, _explained(level, str(error)))
    if seen:
        reason = "" if landlock.abi() else ": this kernel has no Landlock, so give its folder the mode 700"
        return LevelStatus(level, False, f"{seen} is readable inside{reason}")
    if level == "namespaces":
        by = "root: a uid per submission" if spare_uids() else "a user: one uid, in a user namespace, for all"
        return LevelStatus(level, True, f"bubblewrap works, as {by}")
    return LevelStatus(level, True, f"a uid per submission, seccomp, Landlock {landlock.abi()}")


def _missing(level: str) -> str:
    """What is plainly not there, with the remedy; empty if nothing."""
    if level == "none":
        return ""
    if sys.platform != "linux":
        return "needs Linux: grade in the devcontainer, a container or WSL2"
    if not seccomp.supported():
        return f"no table of system calls for {os.uname().machine}: grade on x86-64 or aarch64"
    if level == "namespaces":
        if shutil.which("bwrap") is None:
            return "bubblewrap is not installed (Debian, Ubuntu: apt-get install bubblewrap)"
        return ""
    if not spare_uids():
        return "another uid for each child needs root, in a container one that maps 65,536 uids"
    for path in enclosure.interpreter():
        for folder in [path, *path.parents]:
            if not folder.stat().st_mode & stat.S_IXOTH:
                return f"other users cannot enter {folder}, where Python lies: chmod o+x {folder}"
    return ""


def _readable_inside(level: str, secrets: tuple[Path, ...]) -> str:
    """The first file that a child can read and should not; empty if none, and the interpreter works."""
    with tempfile.TemporaryDirectory(prefix="mlsys-lab-") as folder:
        Path(folder).chmod(0o755)
        secret = Path(folder, "secret.txt")
        secret.write_text("secret")
        secret.chmod(0o644)
        with Sandbox(level, View(), Limits(call_s=20.0)) as sandbox, sandbox.worker() as worker:
            report = worker.load([_PROBE], ["reads"])
            if report.errors:
                raise SandboxError(report.errors[0].public())
            found = worker.student.reads([str(path) for path in secrets or (secret, Path(__file__))])
    return str(found[0]) if found else ""


def _explained(level: str, said: str) -> str:
    restricted = _APPARMOR.is_file() and _APPARMOR.read_text().strip() == "1"
    if level == "namespaces" and restricted and os.geteuid() != 0:
        return (
            "Ubuntu lets no program make user namespaces without an AppArmor profile: install the package "
            "apparmor-profiles and enable its bwrap-userns-restrict, or run as root"
        )
    if level == "namespaces" and ("ermitted" in said or "ermission" in said):
        return f"bubblewrap may not make namespaces here (a container without the right to?): {_short(said)}"
    return _short(said)


def _short(text: str) -> str:
    return " ".join(text.split())[:200]
