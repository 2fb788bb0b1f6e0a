"""Landlock through ctypes: a process that needs no rights gives up its view of all but a few folders.

At the level `uid` there is no mount namespace, so this is what hides the other files. Source: the kernel's
Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h (ABI 1 to 7).
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
READ = _EXECUTE | _READ_FILE | _READ_DIR
LIST = _READ_DIR
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | (1 << 14) | (1 << 15)  # truncate, ioctl on devices
_SCOPES = 3  # abstract unix sockets and signals stay within the domain (ABI 6)


def _syscall(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "landlock: " + os.strerror(ctypes.get_errno()))
    return result


def abi() -> int:
    """The kernel's Landlock version; 0 where it has none or has it switched off."""
    try:
        return _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except (OSError, AttributeError):
        return 0


def restrict(rules: Iterable[tuple[Path, int]], write: Iterable[Path]) -> None:
    """Leave this process nothing but these paths; it cannot be undone. Needs no_new_privs.

    Args:
        rules: a path and the rights below it, `READ` or `LIST`; a missing one is passed over.
        write: files and folders with all rights.

    Raises:
        OSError: the kernel refuses.
    """
    version = abi()
    handled = (1 << (13 + (version >= 2) + (version >= 3))) - 1
    if version >= 5:
        handled |= 1 << 15
    network = 3 if version >= 4 else 0
    scoped = _SCOPES if version >= 6 else 0
    attributes = struct.pack("<QQQ", handled, network, scoped)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _syscall(
        _CREATE_RULESET, ctypes.c_char_p(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0)
    )
    try:
        for path, rights in [*rules, *((p, handled) for p in write)]:
            _add(ruleset, path, rights & handled)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(38, 1, 0, 0, 0)
        _syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _add(ruleset: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _FILE_RIGHTS
        rule = struct.pack("<Qi", rights, fd)
        _syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), ctypes.c_char_p(rule), ctypes.c_uint32(0))
    finally:
        os.close(fd)
