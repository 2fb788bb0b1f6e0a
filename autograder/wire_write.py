"""The writing half of the codec: values to bytes, calling nothing that a subclass overrides."""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict, defaultdict
from typing import Any

import numpy as np

from autograder.frames import (
    F64,
    I64,
    KINDS,
    MAX_DEPTH,
    MAX_FRAME,
    MAX_INT_BITS,
    MAX_ITEMS,
    TYPES,
    U32,
    U64,
    Callback,
    Remote,
    Swap,
    WireError,
)  # fmt: skip

_LARGE = 1 << 16


def _refuse(value: Any) -> Remote | Callback:
    raise WireError(
        f"a value of type {type(value).__name__[:80]} cannot be sent; send numbers, text or arrays"
    )


def encode_parts(value: Any, swap: Swap = _refuse) -> list[bytes | memoryview]:
    """As `encode`, in pieces: a large array is not copied."""
    writer = _Writer(swap)
    writer.put(value, 0)
    return writer.parts


def encode(value: Any, swap: Swap = _refuse) -> bytes:
    """Write a value as bytes.

    Args:
        value: None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, slice,
            Ellipsis, NumPy arrays and scalars of the kinds `biufcSU`, dtypes, plain built-in types. A
            subclass of these is written as its base, without calling any method that it overrides.
        swap: says under which reference anything else stays behind.

    Raises:
        WireError: nested too deep (or in a circle), too many items, too large.
    """
    return b"".join(encode_parts(value, swap))


class _Writer:
    def __init__(self, swap: Swap) -> None:
        self.parts: list[bytes | memoryview] = []
        self.swap = swap
        self.items = 0

    def put(self, value: Any, depth: int) -> None:
        kind = type(value)
        put = self.parts.append
        self._count(1)
        if depth > MAX_DEPTH:
            raise WireError(f"a value nested deeper than {MAX_DEPTH} levels (or in a circle) cannot be sent")
        if value is None or value is True or value is False or value is Ellipsis:
            put({None: b"N", True: b"T", False: b"F", Ellipsis: b"E"}[value])
        elif issubclass(kind, np.generic):
            self._scalar(value, kind, depth)
        elif issubclass(kind, int):
            self._int(int.__int__(value))
        elif issubclass(kind, float):
            put(b"f" + F64.pack(float.__float__(value)))
        elif issubclass(kind, complex):
            put(b"c" + struct.pack("<2d", complex.__complex__(value).real, complex.__complex__(value).imag))
        elif issubclass(kind, str):
            text = str.__str__(value).encode("utf-8", "surrogatepass")
            put(b"s" + U32.pack(len(text)) + text)
        elif issubclass(kind, bytes | bytearray):
            raw = bytes(memoryview(value))
            put(b"b" + U32.pack(len(raw)) + raw)
        elif issubclass(kind, np.ndarray):
            self._array(b"A", np.asarray(value))
        elif kind in (list, set, frozenset) or issubclass(kind, tuple):
            self._sequence(value, kind, depth)
        elif kind in (dict, defaultdict, OrderedDict, Counter):
            pairs = list(dict.items(value))
            put(b"d" + U32.pack(len(pairs)))
            for key, item in pairs:
                self.put(key, depth + 1)
                self.put(item, depth + 1)
        else:
            self._rarer(value, kind, depth)

    def _count(self, n: int) -> None:
        self.items += n
        if self.items > MAX_ITEMS:
            raise WireError(f"more than {MAX_ITEMS:,} items cannot be sent one by one; use a NumPy array")

    def _int(self, value: int) -> None:
        if -(2**63) <= value < 2**63:
            self.parts.append(b"i" + I64.pack(value))
            return
        if value.bit_length() > MAX_INT_BITS:
            raise WireError(f"an integer of more than {MAX_INT_BITS:,} bits cannot be sent")
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        self.parts.append(b"I" + U32.pack(len(raw)) + raw)

    def _sequence(self, value: Any, kind: type, depth: int) -> None:
        base: Any = tuple if issubclass(kind, tuple) else kind
        items = list(base.__iter__(value))
        tag = {list: b"l", tuple: b"t", set: b"e", frozenset: b"z"}[base]
        kinds = set(map(type, items)) if base in (list, tuple) and len(items) > 8 else set()
        if kinds == {float} or (kinds == {int} and all(-(2**63) <= x < 2**63 for x in items)):
            # Long lists of plain numbers go in one piece: 20 times faster than one by one.
            self._count(len(items))
            code = "d" if kinds == {float} else "q"
            head = b"P" + tag + code.encode() + U32.pack(len(items))
            self.parts.append(head + struct.pack(f"<{len(items)}{code}", *items))
            return
        self.parts.append(tag + U32.pack(len(items)))
        for item in items:
            self.put(item, depth + 1)

    def _scalar(self, value: np.generic, kind: type, depth: int) -> None:
        if issubclass(kind, str | bytes):  # an array would drop trailing NULs
            self.parts.append(b"u")
            plain: Any = str.__str__(value) if issubclass(kind, str) else b"".join([value])  # type: ignore[list-item]
            self.put(plain, depth + 1)
        else:
            self._array(b"G", np.asarray(value))

    def _array(self, tag: bytes, array: np.ndarray) -> None:
        if array.dtype.kind not in KINDS or array.dtype.names is not None:
            raise WireError(f"an array of dtype {str(array.dtype)[:80]} cannot be sent; use numbers or text")
        if array.dtype.itemsize == 0:
            array = array.astype(array.dtype.kind + "1")
        dtype = array.dtype.str.encode()
        head = tag + bytes([len(dtype)]) + dtype + bytes([array.ndim])
        if array.nbytes > MAX_FRAME:
            raise WireError(f"an array of {array.nbytes >> 20} MiB is too large to send")
        data = (
            array.tobytes()
            if array.nbytes < _LARGE
            else np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        )
        self.parts += [head, struct.pack(f"<{array.ndim}Q", *array.shape), data]

    def _rarer(self, value: Any, kind: type, depth: int) -> None:
        if kind is slice:
            self.parts.append(b"S")
            for part in (value.start, value.stop, value.step):
                self.put(part, depth + 1)
        elif isinstance(value, np.dtype) and value.kind in KINDS and value.names is None:
            self._text(b"Y", value.str)
        elif kind is type and issubclass(value, np.generic) and np.dtype(value).kind in KINDS:
            self._text(b"y", np.dtype(value).str)
        elif kind is type and value in TYPES.values():
            self._text(b"p", next(name for name, known in TYPES.items() if known is value))
        else:
            found = self.swap(value)
            self.parts.append((b"R" if isinstance(found, Remote) else b"C") + U64.pack(found.id))
            self._text(b"", found.name[:80])

    def _text(self, tag: bytes, text: str) -> None:
        raw = text.encode("utf-8", "replace")[:255]
        self.parts.append(tag + bytes([len(raw)]) + raw)
