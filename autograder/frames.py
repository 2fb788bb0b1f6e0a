"""What both directions of the codec share: caps, errors, references, messages in a stream."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_FRAME = 128 << 20
MAX_ITEMS = 1_000_000
MAX_DEPTH = 60
MAX_INT_BITS = 14_000  # Python prints no longer integers by default: a failure must be able to show its value
MAX_SAME_HASH = 1_000
KINDS = "biufcSU"
TYPES: dict[str, type] = {
    t.__name__: t for t in (int, float, complex, bool, str, bytes, list, tuple, dict, set, object)
}
U32, U64, I64, F64 = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<q"), struct.Struct("<d")
_FIRST_ALLOCATION = 4 << 20


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


class Frames:
    """Cuts a stream of bytes into messages, each four bytes of length and its data.

    Memory grows with what arrived, never with what a length announces.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(_FIRST_ALLOCATION >> 4)
        self._filled = 0
        self._size: int | None = None

    def receive(self, sock: socket.socket) -> bool:
        """Read what the socket has, at most to the end of the message; False at the end of the stream.

        Raises:
            WireError: a message longer than MAX_FRAME is announced.
        """
        end = 4 if self._size is None else self._size
        if self._filled == len(self._buffer) and self._filled < end:
            self._buffer += bytes(min(end - self._filled, max(self._filled, _FIRST_ALLOCATION)))
        got = sock.recv_into(memoryview(self._buffer)[self._filled : end])
        self._filled += got
        if self._size is None and self._filled == 4:
            size = int(U32.unpack_from(self._buffer)[0])
            if size > MAX_FRAME:
                raise WireError(f"a message of {size >> 20} MiB is too large")
            self._buffer, self._filled, self._size = bytearray(min(size, _FIRST_ALLOCATION)), 0, size
        return got > 0

    def next(self) -> bytearray | None:
        """The message, once it is whole."""
        if self._size is None or self._filled < self._size:
            return None
        message, self._buffer, self._filled, self._size = self._buffer, bytearray(4), 0, None
        return message


def send(sock: socket.socket, parts: list[bytes | memoryview]) -> None:
    """Write one message to the stream.

    Raises:
        WireError: longer than MAX_FRAME.
        OSError: the other side is gone, or does not read in time.
    """
    size = sum(map(len, parts))
    if size > MAX_FRAME:
        raise WireError(f"a value of {size >> 20} MiB is too large to send")
    small: list[bytes | memoryview] = [U32.pack(size)]
    for part in parts:
        if len(part) < 1 << 16:
            small.append(part)
        else:
            sock.sendall(b"".join(small))
            sock.sendall(part)
            small = []
    sock.sendall(b"".join(small))
