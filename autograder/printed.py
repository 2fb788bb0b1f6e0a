"""What a student's code prints: read as it comes, kept up to a limit, so that no writer ever waits for us."""

from __future__ import annotations

import os

_AT_ONCE = 64


class Printed:
    """The reading end of a child's stdout and stderr.

    Args:
        fd: the pipe; owned from now on.
        limit: bytes that are kept; the rest is counted and thrown away.
    """

    def __init__(self, fd: int, limit: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._limit = limit
        self._kept = bytearray()
        self._lost = 0

    def drain(self) -> bool:
        """Take what is there; False at the end of the stream."""
        for _ in range(_AT_ONCE):
            try:
                data = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                return True
            if not data:
                return False
            room = max(self._limit - len(self._kept), 0)
            self._kept += data[:room]
            self._lost += max(len(data) - room, 0)
        return True

    def text(self) -> str:
        """What was kept, with a note where something was thrown away."""
        if self.fd >= 0:
            self.drain()
        note = f"\n[{self._lost:,} more bytes of output dropped]\n" if self._lost else ""
        return bytes(self._kept).decode("utf-8", "replace") + note

    def close(self) -> None:
        """Take the last of it and let go of the pipe."""
        if self.fd >= 0:
            self.drain()
            os.close(self.fd)
            self.fd = -1
