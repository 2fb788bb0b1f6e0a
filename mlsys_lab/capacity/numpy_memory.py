"""Every block of memory that NumPy takes for arrays, and gives back, as it happens.

NumPy lets a program name the functions that take and free arrays' memory (NEP 49, PyDataMem_SetHandler).
Ours note the size and hand on to those that were there. A thread has its own: what others make is not seen.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

Heard = Callable[[int, int], None]  # address, bytes; 0 bytes where a block is given back
SET_HANDLER, GET_HANDLER = 304, 305  # places in NumPy's table of functions, the same since 1.22
NAME = b"mem_handler"

_MALLOC = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_CALLOC = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
_REALLOC = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_FREE = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class _Handler(ctypes.Structure):
    """PyDataMem_Handler of numpy/ndarraytypes.h."""

    _fields_ = (
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        ("malloc", _MALLOC),
        ("calloc", _CALLOC),
        ("realloc", _REALLOC),
        ("free", _FREE),
    )


class _Ears:
    """The handler that listens. There is one, for ever: an array is freed by the handler that made it."""

    def __init__(self) -> None:
        numpy = import_module("numpy._core._multiarray_umath")
        python = ctypes.pythonapi
        python.PyCapsule_GetPointer.restype = ctypes.c_void_p
        python.PyCapsule_GetPointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
        python.PyCapsule_New.restype = ctypes.py_object
        python.PyCapsule_New.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        place = python.PyCapsule_GetPointer(numpy._ARRAY_API, None)
        table = ctypes.cast(place, ctypes.POINTER(ctypes.c_void_p))
        self.set = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[SET_HANDLER])
        before = ctypes.PYFUNCTYPE(ctypes.py_object)(table[GET_HANDLER])()
        self.inner = _Handler.from_address(python.PyCapsule_GetPointer(before, NAME))
        self.kept = before
        self.heard: Heard | None = None
        self.handler = _Handler(
            b"mlsys_lab", 1, None, _MALLOC(self._malloc), _CALLOC(self._calloc), _REALLOC(self._realloc),
            _FREE(self._free),
        )  # fmt: skip
        self.capsule = python.PyCapsule_New(ctypes.addressof(self.handler), NAME, None)

    def _malloc(self, _: Any, size: int) -> int | None:
        return self._took(self.inner.malloc(self.inner.context, size), size)

    def _calloc(self, _: Any, count: int, each: int) -> int | None:
        return self._took(self.inner.calloc(self.inner.context, count, each), count * each)

    def _realloc(self, _: Any, block: int, size: int) -> int | None:
        found = self.inner.realloc(self.inner.context, block, size)
        if found and block and self.heard is not None:
            self.heard(block, 0)
        return self._took(found, size)

    def _free(self, _: Any, block: int, size: int) -> None:
        if self.heard is not None and block:
            self.heard(block, 0)
        self.inner.free(self.inner.context, block, size)

    def _took(self, block: int | None, size: int) -> int | None:
        if self.heard is not None and block:
            self.heard(block, size)
        return block


_ears: list[_Ears] = []


@contextmanager
def listening(heard: Heard) -> Iterator[None]:
    """With this, `heard(address, bytes)` is told of each block of this thread's arrays.

    Args:
        heard: called with the bytes of a block that was taken, and with 0 for one that is given back; of
            what was there before only as it is.
    """
    if not _ears:
        _ears.append(_Ears())
    ears = _ears[0]
    if ears.heard is not None:
        raise RuntimeError("arrays are listened to already: one trace at a time")
    before = ears.set(ears.capsule)
    ears.heard = heard
    try:
        yield
    finally:
        ears.heard = None
        ears.set(before)
