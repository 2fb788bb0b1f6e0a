"""A codec that cannot execute: plain values, NumPy arrays, and names for objects that stay where they are.

Pickle runs what it reads; JSON has no arrays, no tuples and no exact numbers. So a value is written as a tag
byte and its bytes, one tag per type (`wire_write`), and read by a parser that trusts nothing (`wire_read`),
message by message (`frames`): whatever is malformed raises `WireError`, and nothing else. The same files
serve both sides.
"""

from autograder.frames import (
    KINDS,
    MAX_DEPTH,
    MAX_FRAME,
    MAX_INT_BITS,
    MAX_ITEMS,
    Callback,
    Frames,
    Remote,
    WireError,
    send,
)  # fmt: skip
from autograder.wire_read import decode
from autograder.wire_write import encode, encode_parts

__all__ = [
    "KINDS", "MAX_DEPTH", "MAX_FRAME", "MAX_INT_BITS", "MAX_ITEMS", "Callback", "Frames", "Remote",
    "WireError", "decode", "encode", "encode_parts", "send",
]  # fmt: skip
