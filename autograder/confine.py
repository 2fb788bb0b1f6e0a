"""What a forked child does to itself before it runs a student's code: namespaces, mounts, limits, a new uid.

Order matters: each step needs a right that a later one gives up. Any step that fails ends the child, so that
code never runs less confined than was asked for. Numbers are from include/uapi/linux (sched.h, mount.h,
prctl.h).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autograder import landlock, seccomp

NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWPID, NEWNET = (
    0x20000, 0x02000000, 0x04000000, 0x08000000, 0x20000000, 0x40000000,
)  # fmt: skip
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _MOVE, _REC, _PRIVATE = (
    1, 2, 4, 8, 32, 4096, 8192, 16384, 1 << 18,
)  # fmt: skip
_PDEATHSIG, _DUMPABLE, _CAPBSET_DROP, _NO_NEW_PRIVS, _CAP_AMBIENT = 1, 4, 24, 38, 47
_MIB = 1 << 20
_HOME, _TMP, _COVER, _SCRATCH = "/sandbox/home", "/tmp", "/sandbox/cover", "/sandbox/scratch"


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def unshare(flags: int) -> None:
    """Leave the namespaces of these kinds for fresh ones."""
    _check(_libc().unshare(flags), "unshare")


def rejoin(namespace: int) -> None:
    """Put later children of this process into the pid namespace that the descriptor stands for."""
    _check(_libc().setns(namespace, NEWPID), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    texts = [(text.encode() if text else None) for text in (source, target, kind, data)]
    _check(_libc().mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]), f"mount {target}")


def enter_namespaces(*, covered: list[str], disk_mb: int, role: str) -> None:
    """Fresh namespaces (the pid namespace came with the fork); nothing is writable but tmpfs.

    Args:
        covered: read-only paths below /tmp (a virtual environment may lie there) that stay visible.
        disk_mb: size of each of the writable file systems.
        role: `worker` or `kernel`; a kernel gets a loopback device and terminals.
    """
    unshare(NEWNS | NEWIPC | NEWUTS | NEWNET)
    mount("none", "/", flags=_REC | _PRIVATE)
    options, safe = f"size={disk_mb}m,mode=1777,nr_inodes=20000", _NOSUID | _NODEV
    mount("tmpfs", _COVER, "tmpfs", safe, options)
    for path in covered:
        below = _COVER + path.removeprefix(_TMP)
        os.makedirs(below, mode=0o755, exist_ok=True)
        mount(path, below, flags=_BIND | _REC)
    mount(_COVER, _TMP, flags=_MOVE)
    mount("tmpfs", _SCRATCH, "tmpfs", safe | _RDONLY, "size=4k,mode=700")
    mount("tmpfs", _HOME, "tmpfs", safe, options)
    mount("tmpfs", "/dev/shm", "tmpfs", safe | _NOEXEC, options)
    mount("proc", "/proc", "proc", safe | _NOEXEC)
    if role == "kernel":
        # `!command` wants a terminal; without a mapped uid 0 (a grader who is not root) there are none.
        with contextlib.suppress(OSError):
            mount("devpts", "/dev/pts", "devpts", _NOSUID | _NOEXEC, "newinstance,ptmxmode=0666,mode=620")
        _loopback_up()
    socket.sethostname("sandbox")


def _loopback_up() -> None:
    """Notebooks start kernels of their own, which talk over 127.0.0.1; this one leads nowhere else."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up, running


def limit(limits: Mapping[str, float], *, role: str, threads: int | None) -> None:
    """Resource limits; memory counts above what this process holds already.

    Args:
        limits: the fields of `Limits`.
        role: a kernel runs the whole notebook: more files, more disk, other programs.
        threads: RLIMIT_NPROC; None where the uid is shared with others.
    """
    worker = role == "worker"
    sizes = {
        resource.RLIMIT_FSIZE: (64 if worker else 256) * _MIB,
        resource.RLIMIT_NOFILE: 64 if worker else 256,
        resource.RLIMIT_CPU: int(limits["submission_s"]) + 60,
        resource.RLIMIT_CORE: 0,
    }
    if threads is not None:
        sizes[resource.RLIMIT_NPROC] = threads
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        sizes[resource.RLIMIT_AS] = pages * resource.getpagesize() + int(limits["memory_mb"]) * _MIB
        sizes[resource.RLIMIT_MSGQUEUE] = 0
        sizes[resource.RLIMIT_MEMLOCK] = 64 << 10
    for which, value in sizes.items():
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))


def become(uid: int | None) -> None:
    """Another user if one is given, without groups, capabilities or a way to get them back."""
    libc = _libc()
    for capability in range(64):
        if libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    libc.prctl(_CAP_AMBIENT, 4, 0, 0, 0)
    header = struct.pack("<Ii", 0x20080522, 0)
    _check(libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(bytes(24))), "capset")
    _check(libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    libc.prctl(_DUMPABLE, 1, 0, 0, 0)  # changing uid made /proc/self unreadable to its owner


def die_with_parent() -> None:
    """The kernel kills this process when the fork server ends."""
    if sys.platform == "linux":
        _libc().prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def hide_files(visible: Mapping[str, list[str]]) -> bool:
    """Give up all files but these, where the kernel has Landlock.

    Args:
        visible: paths under the keys `read`, `list` (names only) and `write`.
    """
    if not landlock.abi():
        return False
    rules = [(Path(p), landlock.READ) for p in visible["read"]] + [
        (Path(p), landlock.LIST) for p in visible["list"]
    ]
    landlock.restrict(rules, [Path(p) for p in visible["write"]])
    return True


def filter_calls(*, role: str, level: str) -> None:
    """Load the seccomp filter of the role; without network namespaces a socket may only be a unix socket."""
    unix, inet, inet6, netlink = 1, 2, 10, 16
    families = () if role == "worker" else (unix, inet, inet6, netlink) if level == "namespaces" else (unix,)
    seccomp.load(seccomp.program(worker=role == "worker", families=families))
