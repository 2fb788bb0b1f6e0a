"""A drawing that is stepped through: shapes, and per step a sentence and what changes.

The page, the strip of pictures and the transcript are made from the same states, so none can say something
else than the others. The page asks nobody for anything and needs no mouse.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

from mlsys_lab._core.style import PALETTE

PAGE = Path(__file__).with_name("stepper.html")
TONES = ("plain", "label", *PALETTE)
FONT, LINE, LETTER = 13, 17, 8  # pixels: of the letters, from line to line, width of one letter


@dataclass(frozen=True)
class Shape:
    """One thing in the drawing, in pixels: a box with text, or a line with an arrow along `path`.

    In the colour of communication the arrow points back to the line's start, as a gradient goes.

    Args:
        name: how the transcript calls it; "" for what is not told.
        tone: a colour of the palette, "plain", or "label" for text without a box.
        level: from 0 to 1 how full a bar is; None for no bar.
    """

    name: str
    x: float = 0
    y: float = 0
    w: float = 0
    h: float = 0
    lines: tuple[str, ...] = ()
    tone: str = "plain"
    level: float | None = None
    path: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Step:
    """What is said, and by shape which of `lines`, `tone` and `level` change."""

    say: str
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Stepper:
    """A drawing and its steps; the first shows the shapes as they are. A notebook shows it as a page.

    Args:
        size: width and height in pixels.

    Raises:
        ValueError: a step changes a shape that is not there, or there is no step.
    """

    title: str
    intro: str
    shapes: Mapping[str, Shape]
    steps: Sequence[Step]
    size: tuple[float, float]

    def __post_init__(self) -> None:
        unknown = sorted({key for step in self.steps for key in step.changes} - set(self.shapes))
        if unknown or not self.steps:
            raise ValueError(f"expected steps that change shapes of the drawing, got {unknown or 'no step'}")

    @property
    def states(self) -> list[dict[str, Shape]]:
        """The shapes after each step."""
        found: list[dict[str, Shape]] = []
        now = dict(self.shapes)
        for step in self.steps:
            now = now | {key: replace(now[key], **change) for key, change in step.changes.items()}
            found.append(now)
        return found

    @property
    def transcript(self) -> list[str]:
        """Per step what is said, and what the shapes show that they did not show before."""
        told = []
        before: dict[str, Shape] = {}
        for step, state in zip(self.steps, self.states, strict=True):
            shown = []
            for key, shape in state.items():
                known = before[key].lines if key in before else ()
                new = [line for line in shape.lines if line not in known]
                if new and shape.name:
                    said = ", ".join(new)
                    shown.append(said if said.startswith(shape.name) else f"{shape.name}: {said}")
            told.append(step.say + (f" Shown: {'; '.join(shown)}." if shown else ""))
            before = state
        return told

    def page(self, *, transcript: bool = True) -> str:
        """The page as HTML, complete in itself."""
        told = "".join(f"<li>{escape(line)}</li>" for line in self.transcript)
        below = f"<details><summary>Transcript</summary><ol>{told}</ol></details>"
        data = {
            "start": {key: {k: asdict(s)[k] for k in ("lines", "tone", "level")} for key, s in self._items()},
            "steps": [
                {"say": s.say, "changes": {k: dict(c) for k, c in s.changes.items()}} for s in self.steps
            ],
        }
        parts = {
            "title": escape(self.title),
            "intro": escape(self.intro),
            "say": escape(self.steps[0].say),
            "count": str(len(self.steps)),
            "colours": "".join(f"--{name}:{colour};" for name, colour in PALETTE.items()),
            "tones": "".join(f".{name}{{--tone:var(--{name})}}" for name in PALETTE),
            "text": f"font:{FONT}px/{LINE}px ui-monospace,'DejaVu Sans Mono',monospace",
            "line": str(LINE),
            "width": f"{self.size[0]:g}",
            "height": f"{self.size[1]:g}",
            "shapes": "".join(_svg(key, shape) for key, shape in self._items()),
            "transcript": below if transcript else "",
            "data": json.dumps(data).replace("<", "\\u003c"),
        }
        page = PAGE.read_text(encoding="utf-8")
        head, *rest = page.split("{{")
        return head + "".join(parts[name] + text for name, text in (r.split("}}", 1) for r in rest))

    def _items(self) -> list[tuple[str, Shape]]:
        return sorted(self.shapes.items(), key=lambda item: not item[1].path)  # lines lie under boxes

    def save(self, path: str | Path) -> None:
        """Write the page to a file."""
        Path(path).write_text(self.page(), encoding="utf-8")

    def _repr_html_(self) -> str:
        """The page in a frame; pictures and transcript under it stay where a notebook runs no scripts."""
        buffer = BytesIO()
        self.filmstrip(buffer)
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        told = "".join(f"<li>{escape(line)}</li>" for line in self.transcript)
        high = f"{self.size[1] + 330:g}"
        frame = f"width:100%;height:{high}px;border:0"
        return (
            f'<iframe title="{escape(self.title)}" sandbox="allow-scripts" style="{frame}" '
            f'srcdoc="{escape(self.page(transcript=False))}"></iframe>'
            "<details><summary>As pictures and words</summary>"
            f'<img alt="{escape(self.title)}: chosen steps; the list below tells all" '
            f'src="data:image/png;base64,{data}" style="max-width:100%">'
            f"<ol>{told}</ol></details>"
        )

    def filmstrip(self, path: Any, *, most: int = 6) -> None:
        """Write a PNG of at most `most` steps, evenly chosen, the first and last among them.

        Args:
            path: a file's path, or a binary file.
        """
        import matplotlib.pyplot as plt
        import numpy as np

        chosen = sorted({round(i) for i in np.linspace(0, len(self.steps) - 1, most).tolist()})
        rows, inches = -(-len(chosen) // 2), 7.0
        high = inches * self.size[1] / self.size[0] + 0.75
        figure, grid = plt.subplots(
            rows, 2, figsize=(2 * inches, rows * high), squeeze=False, layout="constrained"
        )
        try:
            states = self.states
            for axes in grid.flat:
                axes.axis("off")
            for i, axes in zip(chosen, grid.flat, strict=False):
                axes.set(xlim=(0, self.size[0]), ylim=(self.size[1], 0), aspect="equal")
                axes.set_title(
                    _wrapped(f"{i + 1}. {self.steps[i].say}"), fontsize=8, loc="left", weight="normal"
                )
                _draw(axes, states[i], inches * 72 / self.size[0])
            figure.savefig(path, format="png", dpi=110, facecolor="white")
        finally:
            plt.close(figure)


def _wrapped(text: str, columns: int = 112) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, columns, max_lines=3))


def _svg(key: str, s: Shape) -> str:
    """A shape as SVG; the page's script changes class, text and level."""
    head = f'<g id="shape-{escape(key)}" class="{s.tone}">'
    if s.path:
        points = " ".join(f"{x:g},{y:g}" for x, y in s.path)
        return f'{head}<polyline points="{points}" marker-end="url(#arrow)"/></g>'
    place = f'x="{s.x:g}" y="{s.y:g}" height="{s.h:g}"'
    kind = "box" if s.level is None else "box bar"
    bar = "" if s.level is None else f'<rect class="level" {place} width="{s.w * s.level:g}"/>'
    middle = s.x + s.w / 2
    top = s.y + s.h / 2 - (len(s.lines) - 1) * LINE / 2
    text = "".join(
        f'<tspan x="{middle:g}" y="{top + i * LINE:g}">{escape(t)}</tspan>' for i, t in enumerate(s.lines)
    )
    return f'{head}<rect class="{kind}" {place} width="{s.w:g}" rx="4"/>{bar}<text>{text}</text></g>'


def _draw(axes: Any, state: Mapping[str, Shape], points: float) -> None:
    """The same on matplotlib's axes; `points` is the size of a pixel."""
    from matplotlib.patches import Rectangle

    for s in state.values():
        colour = PALETTE.get(s.tone, "#767676")
        if s.path:
            xs, ys = zip(*s.path, strict=True)
            axes.plot(xs, ys, color=colour, lw=1.2, zorder=1)
            arrow = {"arrowstyle": "-|>", "color": colour, "lw": 1.2}
            tip, end = s.path[:2] if s.tone == "communication" else s.path[:-3:-1]
            axes.annotate("", tip, end, arrowprops=arrow, zorder=1)
            continue
        if s.tone != "label":
            wide = 1.0 if s.tone == "plain" else 1.8
            axes.add_patch(Rectangle((s.x, s.y), s.w, s.h, fc="white", ec=colour, lw=wide, zorder=2))
            filled = s.w if s.level is None else s.w * s.level
            tint = 0.4 if s.level is not None else 0.0 if s.tone == "plain" else 0.18
            axes.add_patch(Rectangle((s.x, s.y), filled, s.h, fc=colour, alpha=tint, lw=0, zorder=3))
        axes.text(
            s.x + s.w / 2, s.y + s.h / 2, "\n".join(s.lines), ha="center", va="center",
            fontsize=FONT * points * 0.95, family="monospace", parse_math=False, linespacing=1.15, zorder=4,
        )  # fmt: skip
