"""Files that are written whole or not at all: what was there before stays until the new one is complete."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file, and the folders above it where they are missing.

    Args:
        path: replaced only once all is written.
        data: text is written as UTF-8; lone surrogates become question marks.

    Raises:
        OSError: the disk is full or not writable; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "replace"))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
