"""C source built once per machine, kept in the user's cache, loaded by ctypes or as an extension of CPython.

The name of a cached library is the hash of all that went into it (source, flags, compiler, processor) and the
hash of what came out: one rename publishes it, two builders do not disturb each other, damage shows.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from typing import Any

log = logging.getLogger("mlsys_lab.native")
OFF = "MLSYS_LAB_NO_COMPILER"
# No -ffast-math: NaN, infinity and the order of sums keep their meaning, but for the loops marked `omp simd`.
FLAGS = ("-std=gnu11", "-O3", "-shared", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd")
BUILD_LIMIT_S = 300
SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
_loaded: dict[tuple[str, tuple[str, ...]], ctypes.CDLL] = {}


class NativeError(RuntimeError):
    """There is no compiler, or it refused the source; the message is one line."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler that answered.

    Attributes:
        command: how it is called, e.g. ("/usr/bin/gcc",).
        version: the first line of what it says about itself.
    """

    command: tuple[str, ...]
    version: str


def compiler() -> Compiler | None:
    """Find a C compiler: $CC, cc, gcc, clang, then the package ziglang; None without one.

    MLSYS_LAB_NO_COMPILER=1 hides it. Nothing is installed, opened or compiled by looking: on macOS the
    stand-ins in /usr/bin, which would offer a download in a window, are called only where `xcode-select -p`
    names a folder.
    """
    if os.environ.get(OFF, "0") not in ("", "0"):
        return None
    return _probe(os.environ.get("CC", ""), os.environ.get("PATH", ""))


@cache
def _probe(preferred: str, path: str) -> Compiler | None:
    wanted = shlex.split(preferred)
    for words in (wanted, ["cc"], ["gcc"], ["clang"]):
        found = shutil.which(words[0], path=path) if words else None
        if found is None or (sys.platform == "darwin" and _is_stand_in(found)):
            continue
        version = _first_line([found, *words[1:], "--version"])
        if version:
            if preferred and words is not wanted:
                log.warning(
                    "CC=%s does not answer as a C compiler: %s is used (%s)", preferred, found, version
                )
            return Compiler((found, *words[1:]), version)
    if importlib.util.find_spec("ziglang") is not None:
        command = (sys.executable, "-m", "ziglang", "cc")
        version = _first_line([*command, "--version"])
        if version:
            return Compiler(command, version)
    return None


def _is_stand_in(found: str) -> bool:
    return found.startswith("/usr/bin/") and not _first_line(["/usr/bin/xcode-select", "-p"])


def _first_line(command: list[str]) -> str:
    """What a command prints first, or nothing where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().split("\n")[0] if done.returncode == 0 else ""


@cache
def processor() -> str:
    """What -march=native depends on: the architecture and, on Linux, the processor's name and features."""
    try:
        lines = (
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0].split("\n")
        )
    except OSError:
        lines = [platform.processor()]
    kept = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return "\n".join([sys.platform, platform.machine(), *(kept or lines[:1])])


def cache_folder() -> Path:
    """Where libraries are kept: mlsys-lab/native in the user's cache folder, or a fresh temporary folder."""
    named = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        folder = (Path(named) if named else Path.home() / ".cache") / "mlsys-lab" / "native"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _is_private(folder) and os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        pass
    return _temporary_folder()


@cache
def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="mlsys-lab-native-"))


def _is_private(path: Path) -> bool:
    """Whether nobody else can have written it (code that is loaded runs with our rights)."""
    if not hasattr(os, "getuid"):
        return True
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def build(source: str, *, name: str, flags: tuple[str, ...] = ()) -> Path:
    """Compile C source to a shared library, unless the cache has it.

    Args:
        source: the text of one C file.
        name: what the library is called; the start of its file name.
        flags: compiler options besides the usual ones, e.g. ("-DREAL_IS_DOUBLE",).

    Returns:
        The library's path.

    Raises:
        NativeError: no compiler, or its first error line.
    """
    tool = compiler()
    if tool is None:
        raise NativeError(
            f"no C compiler (set CC, install gcc or clang, or `pip install ziglang`; {OFF} turns this off)"
        )
    parts = (source, *FLAGS, *flags, *tool.command, tool.version, processor())
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    folder = cache_folder()
    for kept in folder.glob(f"{name}-{key}-*{SUFFIX}"):
        if _is_intact(kept):
            return kept
        kept.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as work:
        made = _compile(tool, source, name, flags, Path(work))
        digest = hashlib.sha256(made.read_bytes()).hexdigest()[:20]
        target = folder / f"{name}-{key}-{digest}{SUFFIX}"
        os.replace(made, target)
    return target


def _is_intact(library: Path) -> bool:
    """Whether a cached file is ours and holds what its name says."""
    try:
        digest = hashlib.sha256(library.read_bytes()).hexdigest()[:20]
        return (
            library.is_file() and not library.is_symlink() and _is_private(library) and digest in library.stem
        )
    except OSError:
        return False


def _compile(tool: Compiler, source: str, name: str, flags: tuple[str, ...], folder: Path) -> Path:
    text, made = folder / f"{name}.c", folder / f"{name}{SUFFIX}"
    text.write_text(source, encoding="utf-8")
    position = () if sys.platform == "win32" else ("-fPIC",)
    failure = ""
    for native in (("-march=native",), ("-mcpu=native",), ()):  # not every compiler knows the first
        command = [*tool.command, *FLAGS, *position, *native, *flags, text.name, "-o", made.name, "-lm"]
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, "LC_ALL": "C"},
                capture_output=True,
                text=True,
                timeout=BUILD_LIMIT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NativeError(f"{tool.command[0]}: {error}") from None
        if done.returncode == 0 and made.is_file():
            os.chmod(made, 0o700)
            return made
        failure = failure or _first_error(done.stderr or done.stdout)
    raise NativeError(f"{tool.version}: {failure}")


def _first_error(text: str) -> str:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return next(
        (line for line in lines if "error" in line.lower()), lines[-1] if lines else "it said nothing"
    )


def load(source: str, *, name: str, flags: tuple[str, ...] = ()) -> ctypes.CDLL:
    """Build as `build` does and load; a second call in this process gives the same library.

    Raises:
        NativeError: as `build`, or the system's refusal to load the result.
    """
    key = (hashlib.sha256(source.encode()).hexdigest(), (name, *flags))
    if compiler() is None or key not in _loaded:
        path = build(source, name=name, flags=flags)
        try:
            _loaded[key] = ctypes.CDLL(str(path))
        except OSError as error:
            raise NativeError(f"{path.name}: {error}") from None
    return _loaded[key]


@cache
def extension(package: str, file: str) -> Any:
    """The module that a C file of a package makes of CPython, for work that Python's own objects are.

    Args:
        package: where the file lies, e.g. "mlsys_lab.autograd".
        file: its name; without ".c" that of the module, whose PyInit function it defines.

    Returns:
        None where it cannot be: no compiler, no Python.h, an interpreter that is not CPython with its lock,
        Windows (whose linker wants more), or a refusal to load. Asked once per process.
    """
    include = Path(sysconfig.get_path("include"))
    unlocked = sysconfig.get_config_var("Py_GIL_DISABLED") or sys.implementation.name != "cpython"
    if unlocked or sys.platform == "win32" or not (include / "Python.h").is_file():
        return None
    # No source reads ABI; it puts the name of Python's binary interface into the hash.
    flags = (f"-I{include}", f'-DABI="{sysconfig.get_config_var("EXT_SUFFIX")}"')
    later = ("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()  # Python's functions
    name = file.removesuffix(".c")
    try:
        source = resources.files(package).joinpath(file).read_text(encoding="utf-8")
        path = str(build(source, name=name, flags=(*flags, *later)))
        loader = ExtensionFileLoader(f"{package}.{name}", path)
        module = importlib.util.module_from_spec(ModuleSpec(loader.name, loader, origin=path))
        loader.exec_module(module)
    except (NativeError, ImportError, OSError):
        return None
    return module
