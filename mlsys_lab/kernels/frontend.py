"""CUDA C++ to PTX: by NVIDIA's run-time compiler where its wheel is installed, else by ziglang's clang.

Neither needs a GPU. What was compiled once is kept in the user's cache, by the hash of all that went into it.
The library's own kernels come with their PTX (`precompile.py`), for machines without NVIDIA's compiler.
"""

from __future__ import annotations

import ctypes
import gzip
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from mlsys_lab._core.native import cache_folder

HIDDEN = "MLSYS_LAB_NO_NVRTC"
FILE = "kernel.cu"
FOLDER = Path(__file__).parent / "cuda"
HEADER, PRECOMPILED, PRECOMPILED_FOR = FOLDER / "simulator.h", FOLDER / "precompiled.json.gz", "sm_80"
FLAGS = ("-lineinfo", "-std=c++17")
REMEDY = 'pip install "mlsys-lab-course[kernels]"'


class CompileError(ValueError):
    """The source does not compile; the message is the compiler's, with lines of the learner's file."""


class NoFrontEnd(ImportError):
    """There is no compiler for CUDA C++ here."""


def wheels() -> list[Path]:
    """Folders of NVIDIA's wheels that are installed."""
    spec = importlib.util.find_spec("nvidia")
    return (
        [p for root in (spec.submodule_search_locations or []) for p in sorted(Path(root).iterdir())]
        if spec
        else []
    )


@cache
def nvrtc() -> ctypes.CDLL | None:
    """NVIDIA's compiler, or None where its wheel is not installed."""
    if os.environ.get(HIDDEN, "0") not in ("", "0"):
        return None
    patterns = ("lib/libnvrtc.so*", "bin/nvrtc64_*.dll", "bin/*/nvrtc64_*.dll")
    found = [f for folder in wheels() for pattern in patterns for f in sorted(folder.glob(pattern))]
    found = [f for f in found if "builtins" not in f.name and "alt" not in f.name]
    return ctypes.CDLL(str(found[0])) if found else None


def to_ptx(source: str, arch: str = "sm_80", options: tuple[str, ...] = ()) -> str:
    """Compile to PTX.

    Args:
        source: CUDA C++.
        arch: the architecture, `sm_80`.
        options: further options of the compiler.

    Raises:
        CompileError: it does not compile.
        NoFrontEnd: no compiler is installed; names the command that installs one.
    """
    return str(compiled(source, arch, "ptx", options), "utf-8")


def to_cubin(source: str, arch: str = "sm_80", options: tuple[str, ...] = ()) -> tuple[bytes, str]:
    """Compile to machine code, with the assembler's notes on registers, shared memory and spills.

    Raises:
        CompileError, NoFrontEnd: as `to_ptx`.
    """
    data = compiled(source, arch, "cubin", ("--ptxas-options=-v", *options))
    size = int.from_bytes(data[:8], "little")
    return data[8 + size :], data[8 : 8 + size].decode("utf-8", "replace")


def compiled(source: str, arch: str, kind: str, options: tuple[str, ...]) -> bytes:
    """The cached result, or a new one."""
    library = nvrtc()
    if library is None and kind == "ptx" and not options:
        known = precompiled().get(digest(source), "")
        if re.search(rf"\.target {re.escape(arch)}\b", known):
            return known.encode()
    if library is None and not (kind == "ptx" and importlib.util.find_spec("ziglang")):
        raise NoFrontEnd(f"no compiler for CUDA C++ is installed: {REMEDY}")
    version = clang_version() if library is None else nvrtc_version(library)
    what = "\0".join([source, arch, kind, version, *FLAGS, *options])
    place = cache_folder() / f"cuda-{digest(what)}.{kind}"
    if place.is_file():
        return place.read_bytes()
    data = by_clang(source, arch) if library is None else by_nvrtc(library, source, arch, kind, options)
    handle, name = tempfile.mkstemp(dir=place.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
    os.replace(name, place)
    return data


def architectures() -> list[str]:
    """What the compiler here compiles for; without NVIDIA's, what the course knows."""
    library, count = nvrtc(), ctypes.c_int()
    if library is None:
        return [f"sm_{n}" for n in (70, 75, 80, 86, 89, 90, 100)]
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    numbers = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(numbers)
    return [f"sm_{n}" for n in numbers]


def nvrtc_version(library: ctypes.CDLL) -> str:
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"nvrtc {major.value}.{minor.value}"


@cache
def precompiled() -> dict[str, str]:
    """PTX of the library's own kernels by the digest of their source; empty where the file is missing."""
    if not PRECOMPILED.is_file():
        return {}
    found: dict[str, str] = json.loads(gzip.decompress(PRECOMPILED.read_bytes()))
    return found


def clang_version() -> str:
    """Of the wheel, and of our header, which goes into all that clang compiles."""
    return f"ziglang {importlib.metadata.version('ziglang')} {digest(HEADER.read_text('utf-8'))}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def headers() -> list[str]:
    """Include options for the headers of the wheels, and behind them those of the toolkit at CUDA_PATH."""
    roots = [*wheels(), *(Path(os.environ[v]) for v in ("CUDA_PATH",) if os.environ.get(v))]
    folders = [f / "include" for f in roots if (f / "include").is_dir()]
    folders += [f / "cccl" for f in list(folders) if (f / "cccl").is_dir()]
    return [f"-I{f}" for f in folders]


def by_nvrtc(library: ctypes.CDLL, source: str, arch: str, kind: str, options: tuple[str, ...]) -> bytes:
    program = ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), FILE.encode(), 0, None, None)
    try:
        target = arch if kind == "cubin" else arch.replace("sm_", "compute_")
        words = [f"--gpu-architecture={target}", *FLAGS, *headers(), *options]
        status = library.nvrtcCompileProgram(
            program, len(words), (ctypes.c_char_p * len(words))(*(w.encode() for w in words))
        )
        log = text_of(library, program, "ProgramLog")
        if status:
            raise CompileError(first_error(log.rstrip(b"\0").decode("utf-8", "replace")))
        made = text_of(library, program, "PTX" if kind == "ptx" else "CUBIN")
        if kind == "ptx":
            return made.rstrip(b"\0")
        return len(log).to_bytes(8, "little") + log + made
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def text_of(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    data = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{what}")(program, data)
    return data.raw


def first_error(log: str) -> str:
    """The compiler's errors, each as `line N: what`."""
    found = re.findall(rf"{re.escape(FILE)}[(:](\d+)\)?[^\n]*?error: ([^\n]+)", log)
    if found:
        return "; ".join(f"line {line}: {what.strip()}" for line, what in found[:3])
    told = [line.strip(" \0") for line in log.splitlines() if "error" in line]  # ptxas tells much else
    return "; ".join(told[:3]) or log.strip()[:500]


def by_clang(source: str, arch: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / FILE).write_text(f'#line 1 "{FILE}"\n{source}', encoding="utf-8")
        command = [sys.executable, "-m", "ziglang", "clang", "-x", "cuda", "-nocudainc", "-nocudalib"]
        command += ["--cuda-device-only", f"--cuda-gpu-arch={arch}", "-S", "-O2", "-gline-tables-only"]
        command += ["-std=c++17", "-fno-spell-checking", "-include", str(HEADER), FILE, "-o", "kernel.ptx"]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CompileError(first_error(done.stderr))
        return (place / "kernel.ptx").read_bytes()
