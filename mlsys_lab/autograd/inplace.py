"""Changes in place: which memory was changed when, and what a change must not do.

A rule reads values that were saved; a backward that would read a later one says so. Memory is known by the
object that owns it, so that a change of a view counts for all that overlap it.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

import numpy as np

from mlsys_lab._core.backend import Array, extent, is_float
from mlsys_lab.autograd.errors import InplaceError
from mlsys_lab.autograd.tape import Node, serial

ALONE = 2  # references to memory that one view alone names: the view's, and the call's that counts them

# In-place changes: owner of the memory (by id) -> byte range -> serial number of its last change; and
# the latest change of all, so that a node which is newer than that need not be looked at.
changes: dict[int, dict[tuple[int, int], int]] = {}
latest_change = 0


def note_change(array: Array) -> None:
    """Remember that an array was changed in place after everything recorded so far."""
    global latest_change
    owner, low, high = extent(array)
    if id(owner) not in changes:
        changes[id(owner)] = {}
        weakref.finalize(owner, changes.pop, id(owner), None).atexit = False
    changes[id(owner)][low, high] = latest_change = serial()


def check_unchanged(tape: list[Node]) -> None:
    """Raise InplaceError where a value that a node of the tape saved was changed since."""
    oldest = next((node.serial for node in reversed(tape) if node.op is not None), 0)
    saved = (
        (node, value)
        for node in (tape if oldest < latest_change else ())
        if node.serial < latest_change
        for _, _, values in node.edges or ()
        for value in values
        if isinstance(value, np.ndarray) or hasattr(value, "get")
    )
    for node, value in saved:
        owner, low, high = extent(value)
        for (start, end), number in changes.get(id(owner), {}).items():
            if number > node.serial and start < high and low < end:
                raise InplaceError(
                    f"{node.op.name!r} saved a value of shape {value.shape} changed in place before "
                    "backward: change a copy (x = x + y for x += y), or change it later"
                )


def refuse_truncation(mine: Any, given: Any) -> None:
    """Refuse to cut off what follows the point."""
    if mine.kind in "iub" and is_float(given):
        raise InplaceError(f"{mine} cannot become {given} in place: write x = x + y for x += y")


def refuse_shared(node: Node, array: Array, views: int) -> None:
    """Refuse to change a result on the tape whose memory others name, `views` of which know of the change."""
    if sys.getrefcount(array.base) > ALONE + views:
        raise InplaceError(
            f"the result of {node.op.name!r} shares its memory with another tensor, which would not hear of "
            "a change in place: change a copy (x = x + y for x += y)"
        )
