"""Where a warp's lanes, cells and bars lie in the drawing, and how they and their numbers are written.

One grid serves all parts: large cells for sectors, lanes in a bank or threads, small ones for cycles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

WARP, ROWS, WARPS = 32, 4, 8  # lanes, rows of the grid's large cells, rows of its small ones
LEFT, CELL, HIGH, EDGE = 132, 35, 344, 12  # pixels: before the cells, a cell's width, the grid's height
TOP = 122  # pixels above the grid
SIZE = (LEFT + WARP * CELL + EDGE, TOP + HIGH + 70)

Scene = dict[str, dict[str, Any]]


def some(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def listed(values: Iterable[int]) -> str:
    """Numbers in words; a row with one distance by its first two and its last."""
    found = list(dict.fromkeys(int(v) for v in values))
    if len(found) > 3 and len(set(np.diff(found).tolist())) == 1:
        return (
            f"{found[0]} to {found[-1]}"
            if found[1] - found[0] == 1
            else f"{found[0]}, {found[1]} to {found[-1]}"
        )
    first = ", ".join(map(str, found[:8]))
    return first if len(found) <= 8 else f"{first} and {len(found) - 8} others"


def box(tone: str, *lines: str) -> dict[str, Any]:
    return {"tone": tone, "lines": lines}


def label(*lines: str) -> dict[str, Any]:
    return box("label", *lines)


def bar(level: float, *lines: str) -> dict[str, Any]:
    return {"tone": "memory", "lines": lines, "level": level}


def waiting(names: Sequence[str]) -> Scene:
    return {
        f"bar{i}": {"tone": "idle", "lines": (f"{name}: not run yet",), "level": 0.0}
        for i, name in enumerate(names)
    }


def row(kind: str, name: str, numbers: Iterable[int]) -> Scene:
    """A row of numbers above cells, and what they number."""
    return {f"{kind}head": label(name)} | {f"{kind}{c}": label(str(n)) for c, n in enumerate(numbers)}


def shapes() -> dict[str, dict[str, Any]]:
    """All shapes, hidden: text without a box and without words."""
    found: dict[str, dict[str, Any]] = {}

    def put(key: str, x: float, y: float, w: float, h: float, name: str = "") -> None:
        found[key] = {
            "name": name,
            "x": x,
            "y": y,
            "w": w,
            "h": h,
            "lines": (),
            "tone": "label",
            "level": None,
        }

    wide = WARP * CELL
    put("code", EDGE, 6, LEFT + wide - EDGE, 22, "code")
    for kind, y, h in (("lane", 32, 20), ("ask", 54, 32), ("column", 98, 20)):
        put(f"{kind}head", EDGE, y, LEFT - 2 * EDGE, h)
        for c in range(WARP):
            put(f"{kind}{c}", LEFT + c * CELL, y, CELL - 2, h)
    top, big, small = TOP, HIGH / ROWS, HIGH / WARPS
    for r in range(ROWS):
        put(f"head{r}", EDGE, top + r * big, LEFT - 2 * EDGE, big - 3)
        for c in range(WARP):
            put(f"big{r * WARP + c}", LEFT + c * CELL, top + r * big, CELL - 2, big - 3)
    for w in range(WARPS):
        put(f"warp{w}", EDGE, top + w * small, LEFT - 2 * EDGE, small - 3)
        for c in range(WARP):
            put(f"small{w}-{c}", LEFT + c * CELL, top + w * small, CELL - 2, small - 3)
    part = (LEFT + wide - EDGE) / 4
    for i in range(4):
        put(f"bar{i}", EDGE + i * part, top + HIGH + 14, part - 10, 46, "result")
        found[f"bar{i}"]["level"] = 0.0
    return found
