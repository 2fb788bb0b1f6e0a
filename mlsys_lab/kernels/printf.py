"""What a printf of a kernel says: C's formats over the bytes of its values."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any


def formatted(form: str, data: bytes, text: Callable[[int], str]) -> str:
    """The text of one call.

    Args:
        form: with C's formats.
        data: the values, each aligned to its size.
        text: what stands at an address, for %s.
    """
    at = 0

    def put(match: re.Match[str]) -> str:
        nonlocal at
        if match[0] == "%%":
            return "%"
        long, letter = set("lzjt") & set(match[2]), match[3]
        size = 8 if letter in "feEgGps" or long else 4
        at = -(-at // size) * size
        whole = "q" if size == 8 else "i"
        code = "d" if letter in "feEgG" else whole if letter in "dic" else whole.upper()
        (value,) = struct.unpack_from(f"<{code}", data, at)
        at += size
        shown: Any = chr(value & 255) if letter == "c" else text(value) if letter == "s" else value
        how = {"c": "s", "u": "d", "p": "x"}.get(letter, letter)
        return f"%{match[1]}{how}" % shown

    return re.sub(r"%([-+ #0]*\d*(?:\.\d+)?)([hlzjt]*)([diuoxXfeEgGcsp%])", put, form)
