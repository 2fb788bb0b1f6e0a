"""The reading half of the codec: a parser that trusts nothing. Sizes, counts and depth are capped."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable
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
    MAX_SAME_HASH,
    TYPES,
    U32,
    U64,
    Callback,
    Remote,
    Resolve,
    WireError,
)  # fmt: skip

_SEQUENCES: dict[bytes, Callable[[list[Any]], Any]] = {b"l": list, b"t": tuple, b"e": set, b"z": frozenset}


def decode(data: bytes | bytearray, resolve: Resolve | None = None) -> Any:
    """Read what `encode` wrote.

    Args:
        data: one whole message.
        resolve: gives the object for a reference; without it references are malformed.

    Raises:
        WireError: the bytes are no message. Nothing else is ever raised.
    """
    reader = _Reader(data, resolve)
    try:
        value = reader.take(0)
    except WireError:
        raise
    except Exception as error:  # the last net: arrays and text are checked by their own constructors
        raise WireError(f"malformed value: {type(error).__name__}") from None
    if reader.at != len(data):
        raise WireError("bytes after the end of the value")
    return value


class _Reader:
    def __init__(self, data: bytes | bytearray, resolve: Resolve | None) -> None:
        self.data = memoryview(data)
        self.at = 0
        self.items = 0
        self.resolve = resolve

    def _bytes(self, n: int) -> memoryview:
        end = self.at + n
        if end > len(self.data):
            raise WireError("the value ends too early")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def _size(self) -> int:
        return int(U32.unpack(self._bytes(4))[0])

    def _text(self) -> str:
        return bytes(self._bytes(self._bytes(1)[0])).decode("utf-8", "replace")

    def _many(self, n: int) -> range:
        self.items += n
        if self.items > MAX_ITEMS:
            raise WireError("too many items")
        return range(n)

    def take(self, depth: int) -> Any:
        tag = bytes(self._bytes(1))
        self._many(1)
        if depth > MAX_DEPTH:
            raise WireError("nested too deep")
        if tag in b"NTFE":
            return {b"N": None, b"T": True, b"F": False, b"E": Ellipsis}[tag]
        if tag == b"i":
            return I64.unpack(self._bytes(8))[0]
        if tag == b"f":
            return F64.unpack(self._bytes(8))[0]
        if tag == b"s":
            return bytes(self._bytes(self._size())).decode("utf-8", "surrogatepass")
        if tag == b"b":
            return bytes(self._bytes(self._size()))
        if tag in (b"A", b"G"):
            return self._array(scalar=tag == b"G")
        if tag in _SEQUENCES:
            items = [self.take(depth + 1) for _ in self._many(self._size())]
            return _SEQUENCES[tag](_hashable(items) if tag in b"ez" else items)
        if tag == b"d":
            pairs = [(self.take(depth + 1), self.take(depth + 1)) for _ in self._many(self._size())]
            _hashable(key for key, _ in pairs)
            return dict(pairs)
        return self._rarer(tag, depth)

    def _rarer(self, tag: bytes, depth: int) -> Any:
        if tag == b"I":
            raw = self._bytes(self._size())
            if len(raw) > MAX_INT_BITS // 8 + 1:
                raise WireError("an integer too large")
            return int.from_bytes(raw, "little", signed=True)
        if tag == b"c":
            return complex(*struct.unpack("<2d", self._bytes(16)))
        if tag == b"P":
            base, code, n = bytes(self._bytes(1)), bytes(self._bytes(1)), self._size()
            if base not in (b"l", b"t") or code not in (b"d", b"q"):
                raise WireError("malformed list of numbers")
            self._many(n)
            return _SEQUENCES[base](list(struct.unpack(f"<{n}{code.decode()}", self._bytes(8 * n))))
        if tag == b"u":
            inner = self.take(depth + 1)
            if type(inner) not in (str, bytes):
                raise WireError("malformed NumPy text")
            return np.str_(inner) if type(inner) is str else np.bytes_(inner)
        if tag == b"S":
            return slice(*(self.take(depth + 1) for _ in range(3)))
        if tag in (b"Y", b"y"):
            dtype = _dtype(self._text())
            return dtype if tag == b"Y" else dtype.type
        if tag == b"p":
            return TYPES[self._text()]
        if tag in (b"R", b"C") and self.resolve is not None:
            number = int(U64.unpack(self._bytes(8))[0])
            return self.resolve((Remote if tag == b"R" else Callback)(number, self._text()))
        raise WireError("unknown tag")

    def _array(self, *, scalar: bool) -> Any:
        dtype = _dtype(self._text())
        ndim = self._bytes(1)[0]
        shape = struct.unpack(f"<{ndim}Q", self._bytes(8 * ndim))
        count = math.prod(shape)
        if (
            ndim > 32
            or count * dtype.itemsize > MAX_FRAME
            or max(shape, default=0) >= 2**40
            or (scalar and shape)
        ):
            raise WireError("an array of impossible shape")
        raw = self._bytes(count * dtype.itemsize)
        array = np.frombuffer(raw, dtype, count).reshape(shape).copy() if count else np.zeros(shape, dtype)
        if dtype.kind == "b":  # a byte of 2 is a truth that is neither equal to True nor to False
            array = array.view(np.uint8) != 0
        elif dtype.kind == "U" and array.size:
            codes = np.frombuffer(raw, dtype.byteorder.replace("|", "=") + "u4")
            if codes.max(initial=0) > 0x10FFFF:
                raise WireError("text beyond Unicode")
        return array[()] if scalar else array


def _dtype(text: str) -> np.dtype:
    """A dtype from its own name, such as `<f8`; NumPy's own parser also takes commas and braces."""
    if (
        not text.isascii()
        or text[:1] not in ("<", ">", "|", "=")
        or not text[2:].isdigit()
        or text[1] not in KINDS
    ):
        raise WireError("an unknown dtype")
    if len(text) > 12:
        raise WireError("an unknown dtype")
    dtype = np.dtype(text)
    if dtype.itemsize == 0 or dtype.kind not in KINDS:
        raise WireError("an unknown dtype")
    return dtype


def _hashable(keys: Iterable[Any]) -> list[Any]:
    """The keys of a set or dict, refused where their hashes were made to collide (quadratic time)."""
    listed = list(keys)
    hashes = [hash(key) for key in listed]
    if len(hashes) - len(set(hashes)) > MAX_SAME_HASH:
        raise WireError("keys that collide")
    return listed
