"""What this machine has, in one line, without touching it.

Nothing is probed that could start a driver, a compiler or a download: the line is printed by the first cell
of every notebook, on machines that we have never seen.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path


def cores() -> int:
    """How many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Memory in bytes, or the container's limit where that is less; None where the system does not say."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text()))
        except (OSError, ValueError):
            continue
    return total


def has_nvidia_driver() -> bool:
    """Is an NVIDIA driver loaded or its tool on the path? Neither is run."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def describe() -> str:
    """One line on this machine.

    Example:
        >>> describe()  # doctest: +SKIP
        'Linux x86_64, Python 3.11.7, 2 CPU cores, 7.8 GiB of memory, no NVIDIA GPU'
    """
    memory = memory_bytes()
    size = f"{memory / 2**30:.1f} GiB of memory" if memory else "memory unknown"
    gpu = "an NVIDIA GPU" if has_nvidia_driver() else "no NVIDIA GPU"
    count = cores()
    return (
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        f"{count} CPU core{'s' if count != 1 else ''}, {size}, {gpu}"
    )
