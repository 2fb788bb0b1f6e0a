"""Starts the fork server of a view at a level, and asks it for children.

The levels, best first: `namespaces` (bubblewrap), `uid` (root without bubblewrap: another uid, limits,
seccomp, Landlock), `none` (limits only). `sandbox.py` says which this machine can give.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from autograder import enclosure
from autograder.assignment import Limits, UsageError
from autograder.enclosure import View
from autograder.kernel_child import CHANNELS
from autograder.life import READY_S, KernelProcess, Life, SandboxError
from autograder.proxy import Worker

LEVELS = ("namespaces", "uid", "none")
# Uids that no user has, (first, last), after systemd's UIDS-GIDS: above all containers' ranges; where a
# container maps fewer, the range for dynamic users.
_UID_RANGES = ((0x7000_0000, 0x7000_FFFF), (61_184, 65_519))
_UIDS_PER_SANDBOX = 256
_BOOT = (
    "import sys; sys.path[:0] = [sys.argv[3]]; sys.path += sys.argv[4:]; "
    "from autograder.zygote import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)
_THREADS = ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM", "NUMEXPR")


class Sandbox:
    """One fork server, started when first asked for a child, started anew if it dies.

    Args:
        level: one of `LEVELS`.
        view: what the children see.
        limits: what a child may use.

    Example:
        >>> with Sandbox("namespaces", View(), Limits()) as sandbox, sandbox.worker() as worker:
        ...     worker.load(["def f(x): return x + 1"], ["f"]).missing, worker.student.f(1)
        ([], 2)
    """

    def __init__(self, level: str, view: View, limits: Limits) -> None:
        if level not in LEVELS:
            raise UsageError(f"there is no sandbox level {level!r}: use one of {', '.join(LEVELS)}")
        if sys.platform == "win32":
            raise UsageError("grading needs Linux or macOS: use the devcontainer or WSL2")
        self.level, self.view, self.limits = level, view, limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._lease: socket.socket | None = None
        self._uid_claim: socket.socket | None = None
        self._pidfd = -1
        self._errors: IO[bytes] | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Sandbox:
        self._started()  # before any fork of the grader's, so that all of them share one fork server
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def worker(self) -> Worker:
        """A fresh child that runs one submission's functions.

        Raises:
            SandboxError: the fork server does not start, or a child cannot be confined.
        """
        ours, theirs = socket.socketpair()
        output, writes = os.pipe()
        life = self.spawn({"role": "worker"}, [writes, theirs.fileno()])
        theirs.close()
        os.close(writes)
        return Worker(ours, output, life, self.limits)

    def kernel(self, connection_file: Path, *, colab: bool = False) -> KernelProcess:
        """A fresh child that is the Jupyter kernel of a connection file with the transport `ipc`.

        Args:
            connection_file: as Jupyter writes it.
            colab: give it a stand-in for `google.colab`.

        Raises:
            SandboxError: as `worker`.
        """
        connection = json.loads(connection_file.read_text(encoding="utf-8"))
        listening = []
        with open(os.devnull, "wb") as nowhere:
            try:
                for channel in CHANNELS:
                    listening.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                    listening[-1].bind(f"{connection['ip']}-{connection[f'{channel}_port']}")
                    listening[-1].listen(16)
                fds = [nowhere.fileno(), *(sock.fileno() for sock in listening)]
                request = {"role": "kernel", "connection": connection, "colab": colab}
                return KernelProcess(self.spawn(request, fds))
            finally:
                for sock in listening:
                    sock.close()

    def spawn(self, request: dict[str, Any], fds: list[int]) -> Life:
        """Ask for a child that gets these descriptors; return when it is confined."""
        for attempt in (1, 2):
            control = self._started()
            ours, theirs = socket.socketpair(socket.AF_UNIX, _MESSAGES)
            life = Life(ours)
            try:
                socket.send_fds(control, [json.dumps(request).encode()], [theirs.fileno(), *fds])
                theirs.close()
                life.until_ready()
                return life
            except (SandboxError, OSError):
                theirs.close()
                life.close()
                if attempt == 2 or not self._is_dead():
                    raise
                self.close()
        raise AssertionError

    def close(self) -> None:
        """End the fork server and every child of it."""
        for sock in (self._lease, self._control, self._uid_claim):
            if sock is not None:
                sock.close()
        self._lease = self._control = self._uid_claim = None
        if self._process is not None:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                if self._pidfd >= 0:
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self._errors is not None:
            self._errors.close()
            self._errors = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _is_dead(self) -> bool:
        """By its pidfd: in a fork of the grader's it is no child of this process."""
        if self._pidfd < 0:
            return self._process is None or self._process.poll() is not None
        return bool(select.select([self._pidfd], [], [], 1.0)[0])

    def _started(self) -> socket.socket:
        with self._lock:
            if self._control is None:
                self._start()
            assert self._control is not None
            return self._control

    def _start(self) -> None:
        root = spare_uids()
        control, their_control = socket.socketpair(socket.AF_UNIX, _MESSAGES)
        lease, their_lease = socket.socketpair()
        texts: list[int] = []
        if self.level == "namespaces":
            texts = [_text(content) for content in enclosure.ETC.values()]
            command, base = enclosure.bubblewrap(self.view, texts, root=root), "/sandbox"
        else:
            self._folder = Path(tempfile.mkdtemp(prefix="mlsys-lab-"))
            enclosure.stage(self.view, self._folder)
            command, base = [], str(self._folder)
        packages = f"{base}/packages"
        sockets = [str(sock.fileno()) for sock in (their_control, their_lease)]
        command += [sys.executable, "-I", "-S", "-c", _BOOT, *sockets, packages]
        command += [str(folder) for folder in enclosure.site_folders()]
        self._errors = errors = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                command,
                env={"MALLOC_ARENA_MAX": "2"},  # or each thread would reserve 64 MiB of the memory limit
                cwd="/",
                pass_fds=[*map(int, sockets), *texts],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise SandboxError("bubblewrap is not installed") from None
        finally:
            for fd in texts:
                os.close(fd)
            their_control.close()
            their_lease.close()
        self._control, self._lease = control, lease
        control.send(json.dumps(self._config(base, root=root)).encode())
        hello, fds = b"", list[int]()
        if select.select([control], [], [], READY_S)[0]:
            hello, fds, _, _ = socket.recv_fds(control, 4096, 1)
        self._pidfd = fds[0] if fds else -1
        if hello != b"R":
            errors.seek(0)
            said = hello[1:] or errors.read()[-400:] or b"no answer"
            self.close()
            raise SandboxError(f"the fork server did not start: {said.decode('utf-8', 'replace').strip()}")

    def _config(self, base: str, *, root: bool) -> dict[str, Any]:
        environment = {f"{name}_NUM_THREADS": "1" for name in _THREADS}
        environment |= {
            "LANG": "C.UTF-8",
            "LOGNAME": "student",  # there is no list of users to look the name up in
            "USER": "student",
            "MPLBACKEND": "Agg",
            "PYTHONDONTWRITEBYTECODE": "1",
            "JOBLIB_MULTIPROCESSING": "0",
            "PIP_NO_INDEX": "1",  # what still calls pip fails at once, and asks nobody
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        environment |= {"PATH": f"{sys.prefix}/bin:/usr/bin:/bin", "PYTHONPATH": f"{base}/packages"}
        if self.view.tree is not None:
            environment["MLSYS_LAB_COURSE"] = f"{base}/tree"
        below_tmp = [str(p) for p in enclosure.interpreter() if p.is_relative_to("/tmp")]
        return {
            "level": self.level,
            "limits": dataclasses.asdict(self.limits),
            "uids": self._claim_uids() if root and self.level != "none" else None,
            "folder": f"{base}/children",
            "scratch": f"{base}/scratch",
            "covered": below_tmp,
            "visible": enclosure.visible(self.view, Path(base)) if self.level == "uid" else {},
            "environment": environment,
            "prefix": sys.prefix,
            "preload": ["autograder.worker", *self.view.preload],
        }

    def _claim_uids(self) -> tuple[int, int]:
        """A block of uids that no other sandbox on this machine uses while this one lives."""
        first, last = next((r for r in _UID_RANGES if _is_mapped(*r)), (0, -1))
        blocks = range(first, last - _UIDS_PER_SANDBOX + 2, _UIDS_PER_SANDBOX)
        for block in random.sample(blocks, len(blocks)):
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f"\0mlsys-lab-uids-{block}")
            except OSError:
                claim.close()
                continue
            self._uid_claim = claim
            return block, _UIDS_PER_SANDBOX
        raise SandboxError("no free block of uids: end another grading, or map more uids to this container")


def _text(content: str) -> int:
    """A file without a name, for bubblewrap to read."""
    fd = os.memfd_create("text")
    os.write(fd, content.encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def spare_uids() -> bool:
    """Can each child have a uid of its own? Root of a container may have no spare ones."""
    return sys.platform == "linux" and os.geteuid() == 0 and any(_is_mapped(*uids) for uids in _UID_RANGES)


def _is_mapped(first: int, last: int) -> bool:
    """Does this user namespace know these uids? A container's may not."""
    lines = [list(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(inside <= first and last < inside + count for inside, _, count in lines)


# Whole messages with an end of stream where there are such sockets; macOS has only datagrams.
_MESSAGES = socket.SOCK_SEQPACKET if sys.platform == "linux" else getattr(socket, "SOCK_DGRAM", 0)
