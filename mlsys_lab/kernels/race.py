"""A race as the report tells it: in the terms of the launch, where the machine has granules and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Race:
    """Two unordered accesses to the same bytes, at least one a write, not both strong.

    Attributes:
        space: "shared" or "global".
        address: the byte in the block's shared memory, or in the argument.
        lines: of the two accesses in the source, the earlier one first.
        threads: of the two, each (x, y, z).
        blocks: likewise.
        kind: "write-write", "read-write" or "same-value" (several threads write one value).
        message: one line.
    """

    space: str
    address: int
    lines: tuple[int, int]
    threads: tuple[Any, Any]
    blocks: tuple[Any, Any]
    kind: str
    message: str
