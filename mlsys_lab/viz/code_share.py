"""What a system's code is for: lines by role, as boxes whose area is their share.

After the observation of Sculley and others (Hidden Technical Debt in Machine Learning Systems, NeurIPS 2015,
figure 1) that the code that learns is a small part; the drawing and the roles are this course's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlsys_lab._core.style import PALETTE

#: Role: the folders and files of this repository that play it.
ROLES: dict[str, tuple[str, ...]] = {
    "learning": ("mlsys_lab/autograd", "mlsys_lab/nn", "mlsys_lab/optim"),
    "speed": ("mlsys_lab/compile", "mlsys_lab/kernels", "mlsys_lab/_core"),
    "planning": ("mlsys_lab/capacity",),
    "many machines": ("mlsys_lab/serving", "mlsys_lab/distributed"),
    "figures": ("mlsys_lab/viz",),
    "grading": ("autograder",),
    "lessons": ("labs", "assignments"),
    "tests": ("tests", "benchmarks"),
    "data": ("mlsys_lab/datasets.py", "mlsys_lab/pedestrians.py"),
    "glue": ("lab.py", "mlsys_lab/cli.py", "mlsys_lab/__init__.py"),
    "settings": ("pyproject.toml", "environment.yml", "constraints.txt", ".github", ".devcontainer"),
}
ENDINGS = (".py", ".c", ".cu", ".toml", ".yml")
#: What is found only in a repository, not beside an installed course.
_OF_A_REPOSITORY = ("lessons", "tests", "settings")
LEAST = 2.5  # percent: what is smaller shares a box
_GROUND = "#DDDDDD"


def lines_by_role(root: Path | None = None) -> dict[str, int]:
    """Lines that are not empty, in Python, C, CUDA and tables, per role that is there; most first.

    Args:
        root: where the packages lie; by default where this one does. An installed course has neither tests
            nor lessons beside it, so these are counted in a repository alone.
    """
    here = root or Path(__file__).resolve().parents[2]
    whole = (here / "pyproject.toml").is_file() and (here / "mlsys_lab").is_dir()
    counted = {
        role: sum(_lines(here / place) for place in places)
        for role, places in ROLES.items()
        if whole or role not in _OF_A_REPOSITORY
    }
    return dict(sorted(((k, n) for k, n in counted.items() if n), key=lambda item: -item[1]))


def _lines(place: Path) -> int:
    files = [place] if place.is_file() else [f for f in place.rglob("*") if f.suffix in ENDINGS]
    texts = (f.read_text(encoding="utf-8", errors="ignore") for f in files)
    return sum(bool(line.strip()) for text in texts for line in text.splitlines())


def boxes(axes: Any, lines: Mapping[str, int], black: str, guess: float | None = None) -> None:
    """Draw a box per role, its area its share of all lines, one of them black.

    Args:
        axes: of matplotlib; its frame becomes 20 wide and 5 high, so that an area of 1 is one percent.
        lines: role to lines.
        black: the role that is told apart.
        guess: of its share in percent, drawn as a dotted frame of that area; None draws nothing.
    """
    whole = sum(lines.values())
    percent = {role: 100 * n / whole for role, n in sorted(lines.items(), key=lambda item: -item[1])}
    small = [role for role, share in percent.items() if share < LEAST and role != black]
    if len(small) > 1:
        percent["rest"] = sum(percent.pop(role) for role in small)
        axes.set_xlabel(f"rest: {', '.join(small)}")
    bottom = 0.0
    for row in _rows(percent):
        tall, left = sum(percent[role] for role in row) / 20, 0.0
        for role in row:
            wide = percent[role] / tall
            face, ink = (PALETTE["reference"], "white") if role == black else (_GROUND, "black")
            _frame(axes, (left, bottom), wide, tall, facecolor=face, edgecolor="white", linewidth=2)
            said = f"{role}\n{percent[role]:.0f} %"
            axes.text(left + 0.15, bottom + tall / 2, said, gid="said", va="center", color=ink, fontsize=8)
            left += wide
        bottom += tall
    if guess:  # beside the boxes, a square until it is as high as they are
        side = min(math.sqrt(guess), 5.0)
        look = {"facecolor": "none", "edgecolor": PALETTE["yours"], "linestyle": ":", "linewidth": 2.5}
        _frame(axes, (20.5, 0), guess / side, side, **look)
        said = f"your prediction:\n{guess:g} %"
        axes.text(20.65, side / 2, said, gid="said", va="center", color=PALETTE["yours"], fontsize=8)
    right = 20.0 if not guess else max(20.7 + guess / min(math.sqrt(guess), 5.0), 24.5)
    axes.set(xlim=(0, right), ylim=(0, 5), xticks=[], yticks=[])
    axes.set_frame_on(False)


def _rows(percent: Mapping[str, float]) -> list[list[str]]:
    """Roles in rows of about a third of the whole, so that boxes come out neither long nor thin."""
    found: list[list[str]] = [[]]
    for role in percent:
        full = sum(percent[r] for r in found[-1]) + percent[role] / 2 > 100 / 3
        if found[-1] and full and len(found) < 3:
            found.append([])
        found[-1].append(role)
    return found


def _frame(axes: Any, corner: tuple[float, float], wide: float, tall: float, **look: Any) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(corner, wide, tall, **look))
