"""How many threads the numerical libraries use: one place that sets it for all of them.

NumPy's BLAS and torch each bring a pool of threads, and in one process the pools fight for the same cores.
Nothing is set at import; `with threads(1):` holds for its block, `set_threads` from there on.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np


def set_threads(count: int) -> dict[str, int]:
    """Let every library that is loaded use `count` threads, in the whole process.

    Args:
        count: at least 1.

    Returns:
        Library -> how many it used before.

    Raises:
        ValueError: a count below 1.
    """
    if count < 1:
        raise ValueError(f"a library needs at least one thread, got {count}")
    before = thread_counts()
    for _, write in _controls().values():
        write(count)
    return before


def thread_counts() -> dict[str, int]:
    """How many threads each library that is loaded uses now."""
    return {library: read() for library, (read, _) in _controls().items()}


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set all libraries to `count` threads inside a with block, then back to what each had.

    Example:
        >>> with threads(1):
        ...     max(thread_counts().values(), default=1)
        1
    """
    before = set_threads(count)
    try:
        yield
    finally:
        for library, (_, write) in _controls().items():
            write(before.get(library, count))


def _controls() -> dict[str, tuple[Callable[[], int], Callable[[int], object]]]:
    """Library -> (how to ask it, how to tell it); only libraries that are loaded."""
    found: dict[str, tuple[Callable[[], int], Callable[[int], object]]] = {}
    blas = _numpy_blas()
    if blas is not None:
        found["numpy"] = blas
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = torch.get_num_threads, torch.set_num_threads
    return found


@cache
def _numpy_blas() -> tuple[Callable[[], int], Callable[[int], object]] | None:
    """The thread functions of the OpenBLAS that NumPy's wheel brings; None with another BLAS."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for file in sorted(folder.glob("*openblas*")):
            library = ctypes.CDLL(str(file))  # loaded already: this asks for the same one
            for prefix, suffix in (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", "")):
                read = getattr(library, f"{prefix}openblas_get_num_threads{suffix}", None)
                write = getattr(library, f"{prefix}openblas_set_num_threads{suffix}", None)
                if read is not None and write is not None:
                    return read, write
    return None
