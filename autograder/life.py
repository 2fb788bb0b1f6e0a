"""The trusted end of one child: hear that it is ready, interrupt it, kill it, hear how it ended.

What is killed is named by a pidfd, which stays this process's own when its number is used again; it is the
first process of a pid namespace, so that all that it started goes with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import time

from autograder.usage import queued_s, resident_mb

READY_S = 60.0


class SandboxError(Exception):
    """The sandbox itself does not work here; no fault of a submission."""


class Life:
    """The trusted end of one child's life: kill it, hear how it ended."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pidfd = -1
        self.status: int | None = None

    def until_ready(self, timeout_s: float = READY_S) -> None:
        """Wait for the child's confinement to be complete.

        Raises:
            SandboxError: it could not be confined, or there is no fork server any more.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            message = self._next(deadline - time.monotonic())
            if message == b"R":
                return
            if not message.startswith(b"P"):
                raise SandboxError(message[1:].decode("utf-8", "replace") or "the fork server ended")

    def kill(self) -> None:
        """End the child, and with it the pid namespace that it began."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        else:
            with contextlib.suppress(OSError):
                self.sock.send(b"K")

    def interrupt(self) -> None:
        """SIGINT to the child."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGINT)

    def queued_s(self) -> float:
        """How long the child was ready to run and had no processor, in all its life."""
        return queued_s(self.pidfd) if self.pidfd >= 0 else 0.0

    def ended(self, timeout_s: float) -> int | None:
        """The wait status of the child once it has ended, None where it has not within the time."""
        deadline = time.monotonic() + timeout_s
        while self.status is None:
            message = self._next(deadline - time.monotonic())
            if message.startswith(b"X"):
                (self.status,) = struct.unpack("<i", message[1:5])
            elif not message:
                break
        return self.status

    def close(self) -> None:
        """Kill it if it lives; forget it."""
        self.kill()
        self.ended(5.0)
        self.sock.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def _next(self, timeout_s: float) -> bytes:
        """One message of the fork server; empty at the end of the stream or of the time."""
        if self.sock.fileno() < 0 or not select.select([self.sock], [], [], max(timeout_s, 0.0))[0]:
            return b""
        try:
            message, fds, _, _ = socket.recv_fds(self.sock, 4096, 1)
        except OSError:
            return b""
        if fds:
            self.pidfd = fds[0]
        return message


class KernelProcess:
    """The trusted end of a sandboxed Jupyter kernel."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._killed = False

    def watch(self, memory_mb: float, every_s: float = 0.5) -> str:
        """Wait until it has ended.

        Args:
            memory_mb: what it and its processes may hold together; beyond, it is killed.

        Returns:
            One line that says how it ended by itself; empty where it was killed from here, or is not known.
        """
        pidfd = self._life.pidfd
        while pidfd >= 0 and not self._killed:
            if select.select([pidfd], [], [], every_s)[0]:
                return "" if self._killed else f"the notebook's process ended (exit {self.wait(2.0)})"
            if resident_mb(pidfd) > memory_mb:
                self.kill()
                return f"the notebook's processes together used more than {memory_mb:g} MiB of memory"
        return ""

    def poll(self) -> int | None:
        """The exit code once it has ended, None before."""
        status = self._life.ended(0.0)
        return None if status is None else os.waitstatus_to_exitcode(status)

    def wait(self, timeout_s: float = 10.0) -> int | None:
        """The exit code, after waiting for it."""
        self._life.ended(timeout_s)
        return self.poll()

    def interrupt(self) -> None:
        """As Ctrl-C in a notebook: the cell that runs raises KeyboardInterrupt."""
        self._life.interrupt()

    def kill(self) -> None:
        """End the kernel and every process that it started."""
        self._killed = True
        self._life.kill()

    def close(self) -> None:
        """Kill and forget it."""
        self._killed = True
        self._life.close()
