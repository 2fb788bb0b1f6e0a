"""Look into a zip or tar that somebody handed in, without unpacking it.

Nothing is ever written to disk: members are read into memory under caps on count, size and ratio, and only
regular files with a plain relative path are seen. Everything else (links, devices, `..`, absolute paths,
bombs) is refused with one line.
"""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

#: More than any homework needs; a notebook with all its figures is a few MiB.
MOST_MEMBERS = 5_000
MOST_BYTES = 64 << 20
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


class UnsafeArchive(Exception):
    """The archive is damaged or holds what no homework needs; the message is one line."""


def is_archive(path: Path) -> bool:
    """Does the name end like an archive's?"""
    return path.name.lower().endswith(ENDINGS)


def read_archive(path: Path) -> dict[PurePosixPath, bytes]:
    """Every regular file in an archive.

    Args:
        path: a .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz file.

    Returns:
        Member path to content. Operating systems' litter (`__MACOSX`, `.DS_Store`) is left out.

    Raises:
        UnsafeArchive: a member that leaves the archive, a link or device, too many or too large members,
        damage.
    """
    members: dict[PurePosixPath, bytes] = {}
    total = 0
    try:
        for name, size, read in _zip(path) if path.name.lower().endswith(".zip") else _tar(path):
            inside = _plain(name)
            total += size
            if total > MOST_BYTES or len(members) >= MOST_MEMBERS:
                raise UnsafeArchive(
                    f"the archive unpacks to more than {MOST_BYTES >> 20} MiB or {MOST_MEMBERS} files: "
                    "hand in the notebook alone"
                )
            if "__MACOSX" not in inside.parts and inside.name not in (".DS_Store", "Thumbs.db"):
                members[inside] = read()
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise UnsafeArchive(f"the archive cannot be read ({type(error).__name__}): pack it again") from None
    except (NotImplementedError, RuntimeError) as error:  # zipfile's words for odd compression and passwords
        raise UnsafeArchive(
            f"the archive cannot be read ({error}): use a plain zip without a password"
        ) from None
    return members


def _plain(name: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name or (path.parts and ":" in path.parts[0]):
        raise UnsafeArchive("the archive has a member that points outside of it: pack only your own folder")
    return path


def _zip(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if len(infos) > MOST_MEMBERS:
            raise UnsafeArchive(
                f"the archive holds more than {MOST_MEMBERS} files: hand in the notebook alone"
            )
        for info in infos:
            kind = (info.external_attr >> 16) & 0o170000
            if kind == 0o120000:
                raise UnsafeArchive("the archive holds a symbolic link: put the file itself into it")
            if not info.is_dir():
                yield info.filename, info.file_size, partial(_capped, archive, info)


def _capped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Read one member, but not a byte more than its header promises: bombs lie there."""
    with archive.open(info) as stream:
        data = stream.read(info.file_size + 1)
    if len(data) > info.file_size:
        raise UnsafeArchive("the archive unpacks to more than it says: pack it again")
    return data


def _tar(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            if member.issym() or member.islnk():
                raise UnsafeArchive("the archive holds a link: put the file itself into it")
            if member.isdir():
                continue
            if not member.isreg() or member.sparse is not None:
                raise UnsafeArchive("the archive holds something that is no file: pack only your own folder")
            yield member.name, member.size, partial(_member, archive, member)


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return stream.read() if stream is not None else b""
