"""A codec that cannot execute: plain values, NumPy arrays, and names for objects that stay where they are.

Pickle runs what it reads; JSON has no arrays, no tuples and no exact numbers. So a value is written as a tag byte
and its bytes, one tag per type, and read by a parser that trusts nothing: sizes, counts and depth are capped, memory
grows only with bytes that arrived, and whatever is malformed raises `WireError`. The same file serves both sides.
"""

from __future__ import annotations

import math
import struct
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_FRAME = 128 << 20
MAX_ITEMS = 1_000_000
MAX_DEPTH = 60
MAX_INT_BITS = 14_000  # Python prints no longer integers by default: a failure must be able to show its value
MAX_SAME_HASH = 1_000
KINDS = "biufcSU"

_TYPES: dict[str, type] = {
    t.__name__: t for t in (int, float, complex, bool, str, bytes, list, tuple, dict, set, object)
}
_SEQUENCES: dict[bytes, Callable[[list[Any]], Any]] = {b"l": list, b"t": tuple, b"e": set, b"z": frozenset}
_U32, _U64, _I64, _F64 = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<q"), struct.Struct("<d")


class WireError(ValueError):
    """A value that cannot be sent, or bytes that are no message."""


@dataclass(frozen=True)
class Remote:
    """An object that stays in the student's process; `name` is its type, for messages."""

    id: int
    name: str


@dataclass(frozen=True)
class Callback:
    """A function that stays on the trusted side, for the student's code to call."""

    id: int
    name: str


Swap = Callable[[Any], "Remote | Callback"]
Resolve = Callable[["Remote | Callback"], Any]


def _refuse(value: Any) -> Remote | Callback:
    raise WireError(
        f"a value of type {type(value).__name__[:80]} cannot be sent; send numbers, text or arrays"
    )


def encode(value: Any, swap: Swap = _refuse) -> bytes:
    """Write a value as bytes.

    Args:
        value: None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, slice, Ellipsis,
            NumPy arrays and scalars of the kinds `biufcSU`, dtypes, plain built-in types. A subclass of these is
            written as its base, without calling any method that it overrides.
        swap: says under which reference anything else stays behind.

    Raises:
        WireError: nested too deep (or in a circle), too many items, too large.
    """
    writer = _Writer(swap)
    writer.put(value, 0)
    return b"".join(writer.parts)


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


class _Writer:
    def __init__(self, swap: Swap) -> None:
        self.parts: list[bytes] = []
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
            put(b"f" + _F64.pack(float.__float__(value)))
        elif issubclass(kind, complex):
            put(b"c" + struct.pack("<2d", complex.__complex__(value).real, complex.__complex__(value).imag))
        elif issubclass(kind, str):
            text = str.__str__(value).encode("utf-8", "surrogatepass")
            put(b"s" + _U32.pack(len(text)) + text)
        elif issubclass(kind, bytes | bytearray):
            raw = bytes(memoryview(value))
            put(b"b" + _U32.pack(len(raw)) + raw)
        elif issubclass(kind, np.ndarray):
            self._array(b"A", np.asarray(value))
        elif kind in (list, set, frozenset) or issubclass(kind, tuple):
            self._sequence(value, kind, depth)
        elif kind in (dict, defaultdict, OrderedDict, Counter):
            pairs = list(dict.items(value))
            put(b"d" + _U32.pack(len(pairs)))
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
            self.parts.append(b"i" + _I64.pack(value))
            return
        if value.bit_length() > MAX_INT_BITS:
            raise WireError(f"an integer of more than {MAX_INT_BITS:,} bits cannot be sent")
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        self.parts.append(b"I" + _U32.pack(len(raw)) + raw)

    def _sequence(self, value: Any, kind: type, depth: int) -> None:
        base = tuple if issubclass(kind, tuple) else kind
        items = list(base.__iter__(value))  # type: ignore[attr-defined]
        tag = {list: b"l", tuple: b"t", set: b"e", frozenset: b"z"}[base]
        kinds = set(map(type, items)) if base in (list, tuple) and len(items) > 8 else set()
        if kinds == {float} or (kinds == {int} and all(-(2**63) <= x < 2**63 for x in items)):
            # Long lists of plain numbers go in one piece: 20 times faster than one by one.
            self._count(len(items))
            code = "d" if kinds == {float} else "q"
            head = b"P" + tag + code.encode() + _U32.pack(len(items))
            self.parts.append(head + struct.pack(f"<{len(items)}{code}", *items))
            return
        self.parts.append(tag + _U32.pack(len(items)))
        for item in items:
            self.put(item, depth + 1)

    def _scalar(self, value: np.generic, kind: type, depth: int) -> None:
        if issubclass(kind, str | bytes):  # an array would drop trailing NULs
            self.parts.append(b"u")
            self.put(str.__str__(value) if issubclass(kind, str) else bytes(memoryview(value)), depth + 1)
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
        self.parts += [head, struct.pack(f"<{array.ndim}Q", *array.shape), array.tobytes()]

    def _rarer(self, value: Any, kind: type, depth: int) -> None:
        if kind is slice:
            self.parts.append(b"S")
            for part in (value.start, value.stop, value.step):
                self.put(part, depth + 1)
        elif isinstance(value, np.dtype) and value.kind in KINDS and value.names is None:
            self._text(b"Y", value.str)
        elif kind is type and issubclass(value, np.generic) and np.dtype(value).kind in KINDS:
            self._text(b"y", np.dtype(value).str)
        elif kind is type and _TYPES.get(value.__name__) is value:
            self._text(b"p", value.__name__)
        else:
            found = self.swap(value)
            self.parts.append((b"R" if isinstance(found, Remote) else b"C") + _U64.pack(found.id))
            self._text(b"", found.name[:80])

    def _text(self, tag: bytes, text: str) -> None:
        raw = text.encode("utf-8", "replace")[:255]
        self.parts.append(tag + bytes([len(raw)]) + raw)


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
        return int(_U32.unpack(self._bytes(4))[0])

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
            return _I64.unpack(self._bytes(8))[0]
        if tag == b"f":
            return _F64.unpack(self._bytes(8))[0]
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
            return _TYPES[self._text()]
        if tag in (b"R", b"C") and self.resolve is not None:
            number = int(_U64.unpack(self._bytes(8))[0])
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
    """A dtype from its own name, such as `<f8`; the parser of NumPy also takes commas and braces, this does not."""
    if (
        not text.isascii()
        or not text[:1] in ("<", ">", "|", "=")
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


class Frames:
    """Cuts a stream of bytes into messages, each four bytes of length and its data."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes as they arrive."""
        self._buffer += data

    def next(self) -> bytearray | None:
        """The next whole message, or None where it has not all arrived.

        Raises:
            WireError: a message longer than MAX_FRAME is announced.
        """
        if len(self._buffer) < 4:
            return None
        (size,) = _U32.unpack_from(self._buffer)
        if size > MAX_FRAME:
            raise WireError(f"a message of {size >> 20} MiB is too large")
        if len(self._buffer) < 4 + size:
            return None
        message = self._buffer[4 : 4 + size]
        del self._buffer[: 4 + size]
        return message


def frame(message: bytes) -> bytes:
    """A message as it goes over the stream.

    Raises:
        WireError: longer than MAX_FRAME.
    """
    if len(message) > MAX_FRAME:
        raise WireError(f"a value of {len(message) >> 20} MiB is too large to send")
    return _U32.pack(len(message)) + message
