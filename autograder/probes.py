"""What a prying submission would try, one function each; it returns what it got: an empty list is good.

Student code in every respect: `promises` loads this file's source as a notebook's cell into a confined child.
"""

import ctypes
import glob
import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np


def read_files(paths: list[str]) -> list[str]:
    """Open each file, also around the corner."""
    got = []
    for path in paths:
        for way in (path, f"/proc/1/root{path}", f"/proc/self/root{path}", "/sandbox/../.." + path):
            try:
                with open(way, "rb") as file:
                    file.read(1)
                got.append(way)
            except OSError:
                pass
    return got


def read_environments(marker: str) -> list[str]:
    """Look for a variable of the grader's in every environment that can be read."""
    got = [name for name, value in os.environ.items() if marker in value]
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as file:
                got += [path] if marker.encode() in file.read() else []
        except OSError:
            pass
    return got


def read_processes(grader: int) -> list[str]:
    """Look into the memory and the descriptors of the grader and of whatever else is not this process.

    Nothing is attached to: as root and without a sandbox, ptrace would stop real processes.
    """
    got = []
    others = {int(p.rsplit("/")[-1]) for p in glob.glob("/proc/[0-9]*")} | {grader}
    libc = ctypes.CDLL(None, use_errno=True)
    for pid in others - {os.getpid()}:
        try:
            with open(f"/proc/{pid}/mem", "rb"):
                got.append(f"the memory of {pid}")
        except OSError:
            pass
        with suppress(OSError):
            got += [f"descriptors of {pid}"] if os.listdir(f"/proc/{pid}/fd") else []
    vector = (ctypes.c_size_t * 2)(
        8, 1
    )  # an address that is never mapped: EFAULT means that reading is allowed
    if libc.process_vm_readv(grader, vector, 1, vector, 1, 0) == -1 and ctypes.get_errno() == 14:
        got.append(f"process_vm_readv of {grader}")
    return got


def own_descriptors() -> list[str]:
    """Descriptors beyond stdin, the output's pipe and the one socket."""
    got, sockets = [], 0
    for fd in range(256):
        try:
            mode = os.fstat(fd).st_mode & 0o170000
        except OSError:
            continue
        sockets += mode == 0o140000
        if fd > 2 and mode != 0o140000:
            got.append(f"descriptor {fd}")
    return got + ([f"{sockets} sockets"] if sockets != 1 else [])


def connect(port: int, abstract: str, path: str) -> list[str]:
    """Reach listeners of the host, TCP on loopback and unix sockets, and an outside address."""
    got = []
    targets: list[tuple[int, Any]] = [
        (socket.AF_INET, ("127.0.0.1", port)),
        (socket.AF_INET, ("192.0.2.1", 80)),
        (socket.AF_UNIX, "\0" + abstract),
        (socket.AF_UNIX, path),
    ]
    for family, address in targets:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.settimeout(0.2)
                sock.connect(address)
                got.append(str(address))
        except OSError:
            pass
    try:
        socket.socket(40, socket.SOCK_STREAM).close()  # vsock: not bound to a network namespace
        got.append("a vsock socket")
    except OSError:
        pass
    return got


def send_signals(pids: list[int]) -> list[str]:
    """Signal 0 asks whether a signal would arrive."""
    got = []
    for pid in pids:
        try:
            os.kill(pid, 0)
            got.append(f"process {pid}")
        except OSError:
            pass
    return got


def write_files(folders: list[str]) -> list[str]:
    """Make a file in each folder."""
    got = []
    own = {os.environ["HOME"], os.environ["TMPDIR"], "/dev/shm"}
    with suppress(OSError), open("/proc/self/mounts") as mounts:
        folders = folders + [line.split()[1] for line in mounts]
    for folder in set(folders) - own:
        path = os.path.join(folder, ".mlsys-lab-probe")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            os.unlink(path)
            got.append(folder)
        except OSError:
            pass
    return got


def capabilities() -> list[str]:
    """Effective, permitted, inheritable and bounding capabilities; no_new_privs."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, data)
    got = [f"capability set {i}" for i, word in enumerate(data) if word]
    got += [f"bounding capability {c}" for c in range(41) if libc.prctl(23, c, 0, 0, 0) == 1]
    return got + ([] if libc.prctl(39, 0, 0, 0, 0) == 1 else ["new privileges by exec"])


def become(uid: int) -> list[str]:
    """Is this the grader's user, or can it be?"""
    got = [f"uid {uid}"] if uid in os.getresuid() else []
    for change in (lambda: os.setuid(0), lambda: os.setuid(uid)):
        try:
            change()
            got.append("setuid")
        except OSError:
            pass
    return got


def make_namespaces() -> list[str]:
    """User, mount and network namespaces, through unshare, clone and clone3."""
    libc = ctypes.CDLL(None, use_errno=True)
    got = [f"unshare {flag:#x}" for flag in (0x10000000, 0x20000, 0x40000000) if libc.unshare(flag) == 0]
    number = 56 if os.uname().machine == "x86_64" else 220
    child = libc.syscall(number, 0x10000000 | 17, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    if child > 0:
        os.waitpid(child, 0)
        got.append("clone")
    return got


def start_processes() -> list[str]:
    """Fork, start a program; many threads."""
    got = []
    try:
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        got.append("a forked process")
    except OSError:
        pass
    try:
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
        got.append("a program")
    except OSError:
        pass
    stop, threads = threading.Event(), []
    try:
        for _ in range(200):
            threads.append(threading.Thread(target=stop.wait))
            threads[-1].start()
        got.append("200 threads")
    except RuntimeError:
        pass
    stop.set()
    for thread in threads:
        if thread.ident is not None:
            thread.join()
    return got


def neighbours() -> list[str]:
    """Processes that can be seen besides this one."""
    return [p for p in glob.glob("/proc/[0-9]*") if p != f"/proc/{os.getpid()}"]


def leave(name: str, content: str) -> list[str]:
    """Put a file where another submission may look, and stay; without content, take it away again."""
    for folder in (os.environ["HOME"], os.environ["TMPDIR"], "/dev/shm", "/tmp"):
        path = os.path.join(folder, name)
        try:
            if content:
                with open(path, "w") as file:
                    file.write(content)
                os.chmod(path, 0o666)
            else:
                os.unlink(path)
        except OSError:
            pass
    return []


def find(name: str, content: str) -> list[str]:
    """Look for what another submission left, and read it."""
    folders = [
        os.environ["HOME"],
        os.environ["TMPDIR"],
        "/dev/shm",
        "/tmp",
        os.path.dirname(os.environ["HOME"]),
    ]
    got = []
    for path in [found for folder in folders for found in glob.glob(f"{folder}/**/{name}", recursive=True)]:
        try:
            with open(path) as file:
                got += [path] if file.read() == content else []
        except OSError:
            pass
    return got


def take_memory(mib: int) -> list[str]:
    """Allocate and touch it."""
    try:
        return [f"{np.ones(mib << 17).nbytes >> 20} MiB"]
    except MemoryError:
        return []


def fill_disk(mib: int) -> list[str]:
    """Write files of 32 MiB until refused or until so much is written."""
    written, block = 0, bytes(1 << 20)
    names = [os.path.join(os.environ["HOME"], f"fill{i}") for i in range(mib // 32)]
    try:
        for name in names:
            with open(name, "wb", buffering=0) as file:
                for _ in range(32):
                    written += file.write(block) >> 20
    except OSError:
        pass
    for name in names:
        if os.path.exists(name):
            os.unlink(name)
    return [f"{written} MiB"] if written >= mib else []


def print_much(mib: int) -> list[str]:
    """Print so much and answer all the same."""
    for _ in range(mib):
        print("x" * (1 << 20))
    return []


def never_end() -> None:
    """Ignore every signal and every exception, for ever."""
    import signal

    for number in range(1, 65):
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    while True:
        with suppress(BaseException):
            time.sleep(1000)
