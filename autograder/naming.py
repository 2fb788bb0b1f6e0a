"""Text that somebody else chose, made fit for a terminal, a report and a file's name."""

from __future__ import annotations

import re
import unicodedata

#: File systems take 255 bytes; the rest is for a number and an ending.
MOST_NAME_BYTES = 200


def printable(text: str) -> str:
    """The text without control, format and direction characters, which a terminal would obey."""
    return "".join(c for c in text if unicodedata.category(c)[0] != "C").strip()


def safe_name(text: str) -> str:
    """A file name out of any text: letters (of any script), digits, `.-_`; never empty, hidden or too long.

    Args:
        text: anything.

    Returns:
        At most `MOST_NAME_BYTES` bytes in UTF-8.

    Example:
        >>> safe_name("=cmd() ../Ünal hw1")
        'cmd_Ünal_hw1'
    """
    plain = unicodedata.normalize("NFC", printable(text))
    kept = re.sub(r"[^\w.-]+", "_", plain).strip("._-")
    kept = re.sub(r"_*\.*(?<=[_.])\.+_*|_{2,}", "_", kept)
    cut = kept.encode()[:MOST_NAME_BYTES].decode(errors="ignore")
    return cut.rstrip("._-") or "submission"
