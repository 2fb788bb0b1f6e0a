"""What this machine has, in one line, without touching it.

Nothing is probed that could start a driver, a compiler or a download: the line is printed by the first cell
of every notebook, on machines that we have never seen. `need` installs a framework when a cell asks for it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

#: What labs compare with, beyond the course itself: package -> (the tested version, MB on disk).
FRAMEWORKS = {
    "torch": ("torch==2.13.0", 860),
    "tensorflow": ("tensorflow==2.21.0", 1440),
    "nvrtc": ("nvidia-cuda-nvrtc==13.5.37", 145),
}
#: The compiler of CUDA C++ where NVIDIA publishes none.
CLANG = ("ziglang==0.17.1", 410)
NVRTC_SYSTEMS = ("Linux", "Windows")
#: Packages of which one is enough; PyTorch's build for CUDA brings NVIDIA's along.
COMPILERS = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "ziglang")
#: The same without CUDA's part, which TensorFlow publishes under a name of its own for one platform.
TENSORFLOW_CPU = ("Linux", "x86_64", "tensorflow-cpu==2.21.0")
#: PyTorch's own index of builds without CUDA: a tenth of the size on a machine without an NVIDIA GPU.
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


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


def need(framework: str) -> Any:
    """Import a framework that a lab compares with; where it is missing, install it and say how much that is.

    Args:
        framework: a key of `FRAMEWORKS`.

    Returns:
        The module; of a compiler, which is no module, nothing.

    Raises:
        RuntimeError: it could not be installed; pip's own words stand above.
    """
    if not is_installed(framework):
        requirement, megabytes = required(framework, platform.system(), platform.machine())
        print(f"Installing {framework}, about {megabytes} MB on disk, once", flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        told = torch_arguments(platform.system(), os.environ, has_nvidia_driver())
        extra = told if framework == "torch" else []
        if subprocess.run([*pip, *extra, requirement], check=False).returncode:
            raise RuntimeError(f"{framework} could not be installed: see above, then run this cell again")
        importlib.invalidate_caches()
    return importlib.import_module(framework) if framework != "nvrtc" else None


def is_installed(framework: str) -> bool:
    """Is a framework here? It is not imported."""
    if framework != "nvrtc":
        return importlib.util.find_spec(framework) is not None
    return any(True for name in COMPILERS for _ in distributions(name=name))


def required(framework: str, system: str, processor: str) -> tuple[str, int]:
    """What pip is asked for on a platform, and its megabytes, as the extras of pyproject.toml have it."""
    requirement, megabytes = FRAMEWORKS[framework]
    if framework == "tensorflow" and (system, processor) == TENSORFLOW_CPU[:2]:
        requirement = TENSORFLOW_CPU[2]
    if framework == "nvrtc" and system not in NVRTC_SYSTEMS:
        return CLANG
    return requirement, megabytes


def torch_arguments(system: str, environ: Mapping[str, str], nvidia: bool) -> list[str]:
    """pip's further arguments for torch, as the bootstrap has them: the CPU build where that is enough."""
    told = any(environ.get(f"PIP_{name}") for name in ("FIND_LINKS", "INDEX_URL", "EXTRA_INDEX_URL"))
    if told or nvidia or system != "Linux":
        return []
    return ["--extra-index-url", TORCH_CPU_INDEX, "--timeout", "15"]
