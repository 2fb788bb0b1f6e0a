"""Look into a zip or tar that somebody handed in, without unpacking it.

Nothing is ever written to disk: members are read into memory under caps on count, size and ratio, and only
regular files with a plain relative path are seen. Everything else (links, devices, `..`, absolute paths,
bombs) is refused with one line. The reading itself happens in a process of its own with little memory and
time, because the standard library's readers trust an archive's headers; Windows has no such limits, there
this process reads.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path, PurePosixPath

from autograder import unpack_child
from autograder.unpack_child import UnsafeArchive as UnsafeArchive

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MOST_SECONDS = 20.0
CLASS_SECONDS = 120.0


def is_archive(path: Path | PurePosixPath) -> bool:
    """Does the name end like an archive's?"""
    return path.name.lower().endswith(ENDINGS)


def read_archive(path: Path) -> dict[PurePosixPath, bytes]:
    """Every regular file in one student's archive.

    Args:
        path: a .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz file.

    Returns:
        Member path to content. Operating systems' litter (`__MACOSX`, `.DS_Store`) is left out.

    Raises:
        UnsafeArchive: a member that leaves the archive, a link or device, too many or too large members,
        a password, more memory or time than any homework needs, damage.
    """
    members = unpack_child.read_here(path) if os.name == "nt" else _read_apart(path)
    return {inside: data for inside, data in members.items() if data is not None}


def read_class_archive(path: Path) -> dict[PurePosixPath, bytes | None]:
    """Every regular file in a class's archive, as a course system packs it.

    Returns:
        Member path to content: empty for what is no part of a hand-in, None for what is too large to be one.

    Raises:
        UnsafeArchive: as `read_archive`, with the caps of a class.
    """
    if os.name == "nt":
        return unpack_child.read_here(path, unpack_child.MANY)
    return _read_apart(path, "class")


def _read_apart(path: Path, *kind: str) -> dict[PurePosixPath, bytes | None]:
    # -I and -S: neither the folder, the environment nor site-packages say what the child imports.
    command = [sys.executable, "-I", "-S", unpack_child.__file__, str(path.absolute()), *kind]
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=CLASS_SECONDS if kind else MOST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnsafeArchive(unpack_child.TOO_MUCH) from None
    except (OSError, ValueError) as error:
        raise UnsafeArchive(f"the archive's reader does not start ({type(error).__name__})") from None
    if answer.returncode == unpack_child.REFUSED:
        raise UnsafeArchive(answer.stdout.decode("utf-8", "replace"))
    if answer.returncode != unpack_child.READ:
        raise UnsafeArchive(unpack_child.TOO_MUCH)
    return _members(answer.stdout)


def _members(answer: bytes) -> dict[PurePosixPath, bytes | None]:
    """Take the child's answer apart; one that was cut short is no answer."""
    members: dict[PurePosixPath, bytes | None] = {}
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        if at + size > len(answer):
            raise UnsafeArchive(unpack_child.TOO_MUCH)
        at += size
        return answer[at - size : at]

    length = unpack_child.LENGTH
    while (head := take(length.size)) != unpack_child.END:
        name = take(length.unpack(head)[0]).decode("utf-8", "surrogatepass")
        size = take(length.size)
        read = size != unpack_child.TOO_LARGE
        members[PurePosixPath(name)] = take(length.unpack(size)[0]) if read else None
    return members
