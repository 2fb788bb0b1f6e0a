"""The fork server: a process with NumPy and friends loaded that forks one confined child per submission.

It starts once per class, inside bubblewrap where there is one, with an empty environment; it never runs a
student's code, has no threads, and hands each child nothing but the descriptors that came for it. Three kinds
of socket: `control` (requests, with descriptors), one `life` per child (its pidfd, ready, exit status; "K" or
closing kills it), and `lease`, which closes when the grader dies, upon which everything here ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from autograder import confine

MAX_REQUEST = 64 << 10
MAX_DESCRIPTORS = 8


@dataclass
class Child:
    """A forked child: its process id here, its life's socket, its uid, and its folder where it has one."""

    pid: int
    life: socket.socket
    uid: int | None
    folder: str | None


class Zygote:
    """The state of the server.

    Args:
        control, lease: see above.
        config: level, limits, uids, folder, covered, visible, environment (written by `fork_server.Sandbox`).
    """

    def __init__(self, control: socket.socket, lease: socket.socket, config: dict[str, Any]) -> None:
        self.control, self.lease, self.config = control, lease, config
        self.children: dict[int, Child] = {}  # by the descriptor of `life`
        self.forked = 0
        self.namespaces: bool = config["level"] == "namespaces"
        self.own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC) if self.namespaces else -1
        self.wake_read, self.wake_write = (
            os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()
        )

    def run(self) -> None:
        """Serve until the lease ends."""
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        for fd in (self.control.fileno(), self.lease.fileno(), self.wake_read):
            poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self.lease.fileno():
                    return
                if fd == self.wake_read:
                    os.read(self.wake_read, 4096)
                    for child in self._reap():
                        with suppress(KeyError):
                            poll.unregister(child.life.fileno())
                        self._bury(child)
                elif fd == self.control.fileno():
                    request, fds, _, _ = socket.recv_fds(self.control, MAX_REQUEST, MAX_DESCRIPTORS)
                    if not request:
                        return
                    life = socket.socket(fileno=fds[0])
                    try:
                        self._spawn(json.loads(request), life, fds[1:])
                        poll.register(life.fileno(), select.POLLIN)
                    except OSError as error:
                        life.send(f"Ethe fork failed: {error}"[:400].encode())
                        life.close()
                    for passed in fds[1:]:
                        os.close(passed)
                elif fd in self.children:
                    with suppress(OSError):
                        self.children[fd].life.recv(16)
                    # Whether "K" or the end of the stream: the grader wants it gone. It stays ours until
                    # reaped.
                    os.kill(self.children[fd].pid, signal.SIGKILL)
                    poll.unregister(fd)

    def close(self) -> None:
        """Kill what is left."""
        for child in self.children.values():
            os.kill(child.pid, signal.SIGKILL)
        for child in list(self.children.values()):
            os.waitpid(child.pid, 0)
            self._sweep(child)

    def _reap(self) -> list[Child]:
        gone = []
        by_pid = {child.pid: child for child in self.children.values()}
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                child = by_pid.get(ended[0])
                if child is not None:
                    self._sweep(child)
                    with suppress(OSError):
                        child.life.send(b"X" + struct.pack("<i", ended[1]))
                    gone.append(child)
        return gone

    def _bury(self, child: Child) -> None:
        del self.children[child.life.fileno()]
        child.life.close()

    def _sweep(self, child: Child) -> None:
        """End what a child left behind; a pid namespace does it by itself."""
        if self.namespaces:
            return
        if child.uid is None:
            with suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
        else:
            sweeper = os.fork()
            if sweeper == 0:
                with suppress(BaseException):
                    # -1 is every process of this uid, which no user has; it must never be said as root.
                    os.setresuid(child.uid, child.uid, child.uid)
                    if os.getuid() == child.uid > 0:
                        os.kill(-1, signal.SIGKILL)
                os._exit(0)
            os.waitpid(sweeper, 0)
        if child.folder is not None:
            shutil.rmtree(child.folder, ignore_errors=True)

    def _next_uid(self) -> int | None:
        if self.config["uids"] is None:
            return None
        first, count = self.config["uids"]
        taken = {child.uid for child in self.children.values()}
        for _ in range(count):
            self.forked += 1
            uid = first + self.forked % count
            if uid not in taken:
                return int(uid)
        raise OSError("every uid is in use")

    def _spawn(self, request: dict[str, Any], life: socket.socket, fds: list[int]) -> None:
        uid = self._next_uid()
        folder = None
        if not self.namespaces:
            self.forked += 1
            folder = os.path.join(self.config["folder"], f"child{self.forked}")
            os.mkdir(folder, 0o700)
            if uid is not None:
                os.chown(folder, uid, uid)
        else:
            # The next fork makes the first process of a new pid namespace, a child of this process all the
            # same.
            confine.rejoin(self.own_pids)
            confine.unshare(confine.NEWPID)
        pid = os.fork()
        if pid == 0:
            self._become_child(request, life, fds, uid, folder)
        self.children[life.fileno()] = Child(pid, life, uid, folder)
        with suppress(OSError):
            if hasattr(os, "pidfd_open"):
                handle = os.pidfd_open(pid)
                socket.send_fds(life, [b"P"], [handle])
                os.close(handle)

    def _become_child(
        self,
        request: dict[str, Any],
        life: socket.socket,
        fds: list[int],
        uid: int | None,
        folder: str | None,
    ) -> NoReturn:
        try:
            role = request["role"]
            self._forget([life.fileno(), *fds])
            os.setsid()
            home = self._confine(role, uid, folder)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.close(nothing)
            os.dup2(fds[0], 1)
            os.dup2(fds[0], 2)
            os.close(fds[0])
            os.chdir(home)
            life.send(b"R")
            life.close()
        except BaseException as error:
            with suppress(BaseException):
                life.send(f"E{type(error).__name__}: {error}"[:400].encode())
            os._exit(1)
        try:
            if role == "worker":
                from autograder.worker import serve

                serve(fds[1])
            else:
                from autograder.kernel_child import serve_kernel

                loopback, colab = self.config["level"] != "uid", request["colab"]
                serve_kernel(request["connection"], fds[1:], loopback=loopback, colab=colab)
            os._exit(0)
        except BaseException:
            traceback.print_exc()  # of ours: the student's errors are answers
        finally:
            os._exit(70)

    def _forget(self, keep: list[int]) -> None:
        """Close every descriptor but these, and disarm the objects that would close them again later."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for held in (self.control, self.lease, *(child.life for child in self.children.values())):
            held.detach()
        self.children.clear()
        low = 3
        for fd in [*sorted(keep), os.sysconf("SC_OPEN_MAX")]:
            os.closerange(low, min(fd, 1 << 20))
            low = fd + 1

    def _confine(self, role: str, uid: int | None, folder: str | None) -> str:
        config = self.config
        home = folder or "/sandbox/home"
        os.environ.clear()
        os.environ.update(config["environment"])
        os.environ.update(
            HOME=home, TMPDIR="/tmp" if self.namespaces else home, MPLCONFIGDIR=f"{home}/.matplotlib"
        )
        if self.namespaces:
            disk = 64 if role == "worker" else 256
            confine.enter_namespaces(covered=config["covered"], disk_mb=disk, role=role)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # if the machine runs out of memory, the student's process is the one to go
        threads = (64 if role == "worker" else 256) if uid is not None else 1024 if self.namespaces else None
        confine.limit(config["limits"], role=role, threads=threads)
        if config["level"] != "none":
            confine.become(uid)
            if not self.namespaces:
                confine.hide_files({**config["visible"], "write": [home, *config["visible"]["write"]]})
            confine.die_with_parent()
            confine.filter_calls(role=role, level=config["level"])
        else:
            confine.die_with_parent()
        return home


def main(control_fd: int, lease_fd: int) -> None:
    """Read the configuration, import what is to be preloaded, serve."""
    os.umask(0o022)
    control, lease = socket.socket(fileno=control_fd), socket.socket(fileno=lease_fd)
    config = json.loads(control.recv(MAX_REQUEST))
    os.environ.update(config["environment"], MPLCONFIGDIR=config["scratch"])
    sys.prefix = sys.exec_prefix = config["prefix"]
    try:
        for module in config["preload"]:
            importlib.import_module(module)
        with suppress(ImportError):  # cells with magics need it; 40 ms in each child otherwise
            importlib.import_module("IPython.core.inputtransformer2")
        zygote = Zygote(control, lease, config)
        gc.collect()
        gc.freeze()
        fds = [os.pidfd_open(os.getpid())] if hasattr(os, "pidfd_open") else []
        socket.send_fds(control, [b"R"], fds)
    except BaseException as error:
        control.send(f"E{type(error).__name__}: {error}"[:400].encode())
        return
    try:
        zygote.run()
    finally:
        zygote.close()
