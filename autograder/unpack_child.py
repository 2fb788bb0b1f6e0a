"""Read one archive in a process of its own, which may run out of memory or time and take nothing with it.

The standard library's readers believe what an archive says of itself: a header of a few bytes can ask for
gigabytes or for a loop without end. So the reader bounds itself first, and answers with plain bytes:
for each member its name's length, its name, its content's length and its content, then a mark of the end.
Run as a script it needs nothing but the standard library, so nothing of the submission's folder is imported.
Of a whole class's archive a member that is too large costs its own content only, and what no hand-in is made
of (pictures, data) is named but not read.
"""

from __future__ import annotations

import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

MOST_NAME_BYTES = 4_096


@dataclass(frozen=True)
class Caps:
    """What an archive may be: its members, their bytes in all and each, the reader's memory and time."""

    members: int
    total: int
    each: int
    memory: int
    cpu_s: int
    endings: tuple[str, ...] = ()


#: More than any homework needs; a notebook with all its figures is a few MiB.
ONE = Caps(members=5_000, total=64 << 20, each=64 << 20, memory=768 << 20, cpu_s=10)
#: A class of several hundred. What is larger than `each` is not read and not counted.
MANY = Caps(
    members=50_000,
    total=1 << 30,
    each=32 << 20,
    memory=2 << 30,
    cpu_s=60,
    endings=(".ipynb", ".py", ".yml", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"),
)

#: The child's exit codes: members follow, or one line that says why there are none.
READ, REFUSED = 0, 3
LENGTH = struct.Struct("<I")
END = LENGTH.pack(0xFFFFFFFF)
TOO_LARGE = LENGTH.pack(0xFFFFFFFE)
TOO_MUCH = "the archive needs more memory or time than any homework: hand in the notebook alone"


class UnsafeArchive(Exception):
    """The archive is damaged or holds what no homework needs; the message is one line."""


def read_here(path: Path, caps: Caps = ONE) -> dict[PurePosixPath, bytes | None]:
    """Every regular file in an archive, read by this very process.

    Args:
        path: a .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz file.
        caps: for one student's archive or a class's.

    Returns:
        Member path to content, without operating systems' litter; None for one of a class's that is too
        large.

    Raises:
        UnsafeArchive: anything that keeps the archive from being read.
    """
    members: dict[PurePosixPath, bytes | None] = {}
    total = 0
    try:
        reader = _zip(path, caps) if path.name.lower().endswith(".zip") else _tar(path)
        for count, (name, size, read) in enumerate(reader, start=1):
            inside = _plain(name)
            if size < 0:
                raise UnsafeArchive("the archive has a member of negative size: pack it again")
            if "__MACOSX" in inside.parts or inside.name in (".DS_Store", "Thumbs.db"):
                content = False
            else:
                content = not caps.endings or inside.name.lower().endswith(caps.endings)
                members[inside] = None if size > caps.each and content else b""
            total += size if caps is ONE or (content and size <= caps.each) else 0
            if total > caps.total or count > caps.members:
                said = f"more than {caps.total >> 20} MiB or {caps.members} files"
                raise UnsafeArchive(f"the archive unpacks to {said}: {_instead(caps)}")
            if content and members[inside] is not None:
                members[inside] = read()
    except UnsafeArchive:
        raise
    except MemoryError:
        raise UnsafeArchive(TOO_MUCH) from None
    except Exception as error:  # the readers raise nearly anything at a header made to confuse them
        raise UnsafeArchive(f"the archive cannot be read ({type(error).__name__}): pack it again") from None
    return members


def _instead(caps: Caps) -> str:
    return "hand in the notebook alone" if caps is ONE else "unpack it and name its folder"


def _plain(name: str) -> PurePosixPath:
    if len(name.encode("utf-8", "surrogatepass")) > MOST_NAME_BYTES:
        raise UnsafeArchive("the archive has a member with an endless name: pack it again")
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts or ":" in path.parts[0]:
        raise UnsafeArchive("the archive has a member that points outside of it: pack only your own folder")
    return path


def _zip(path: Path, caps: Caps) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if len(infos) > caps.members:
            raise UnsafeArchive(f"the archive holds more than {caps.members} files: {_instead(caps)}")
        for info in infos:
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise UnsafeArchive("the archive holds a symbolic link: put the file itself into it")
            if info.flag_bits & 0x41:  # encrypted, or encrypted strongly
                raise UnsafeArchive("the archive has a password: use a plain zip without one")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Only deflate is decompressed by the piece; the others unpack a bomb whole.
                raise UnsafeArchive("the archive uses an unusual compression: use a plain zip")
            if not info.is_dir():
                yield _file_name(info), info.file_size, partial(_capped, archive, info)


def _file_name(info: zipfile.ZipInfo) -> str:
    """A member's name; macOS writes it in UTF-8 without the flag that says so."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


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
            if member.size < 0:  # of any type: it turns the reader back to where it was
                raise UnsafeArchive("the archive has a member of negative size: pack it again")
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


def bound(caps: Caps) -> None:
    """Limit this process's memory, processor time and files; a limit that the system lacks is left out."""
    import resource  # not on Windows, where nothing here runs as a process of its own

    now = 0
    with suppress(OSError, ValueError, IndexError):
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for limit, most in (
        (resource.RLIMIT_AS, now + caps.memory),
        (resource.RLIMIT_CPU, caps.cpu_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, (most, most))


def main(path: Path, caps: Caps = ONE) -> int:
    """Answer on standard output what is in an archive.

    Args:
        path: the archive.
        caps: what it may be.

    Returns:
        `READ` or `REFUSED`.
    """
    bound(caps)
    out = sys.stdout.buffer
    try:
        members = read_here(path, caps)
    except UnsafeArchive as refusal:
        out.write(str(refusal).encode("utf-8", "replace"))
        return REFUSED
    for inside, data in members.items():
        name = str(inside).encode("utf-8", "surrogatepass")
        size = TOO_LARGE if data is None else LENGTH.pack(len(data))
        out.writelines((LENGTH.pack(len(name)), name, size, data or b""))
    out.write(END)
    out.flush()
    return READ


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), MANY if sys.argv[2:] else ONE))
