"""What every figure of a lab needs: the prediction hollow, the bound dashed, words beside the picture.

The words are made from the artists that are drawn, so that the text equivalent cannot say something else
than the picture.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from html import escape
from io import BytesIO
from types import EllipsisType
from typing import Any

import numpy as np

from mlsys_lab._core.style import PALETTE

MOST_BARS = 12
SAID = "said"  # the gid of an artist that the words tell, though no legend names it


def prediction(axes: Any, x: float | None, y: float | EllipsisType | None = ...) -> None:
    """Draw a learner's prediction as a hollow marker at (x, y), in the axes' units; nothing for None.

    Without y it is one of x alone: a line at x.
    """
    if x is None or y is None:
        return
    if y is ...:
        axes.axvline(x, ls=":", color=PALETTE["yours"], label="your prediction")
        return
    axes.plot(x, y, "o", markersize=12, mfc="none", color=PALETTE["yours"], label="your prediction")
    ground = {"boxstyle": "round,pad=0.15", "fc": axes.get_facecolor(), "ec": "none"}
    axes.annotate(
        "your prediction", (x, y), (12, 0), textcoords="offset points", va="center", color=PALETTE["yours"],
        bbox=ground, zorder=3,
    )  # fmt: skip


def bound(axes: Any, y: float, text: str) -> None:
    """Draw a bound as a dashed line at height y, with its name at the right end."""
    # Named where it lies, so not in the legend too, which passes over names that begin with "_".
    axes.axhline(y, ls="--", color=PALETTE["reference"], label=f"_{text}", gid=SAID)
    axes.annotate(
        text, (1, y), (-4, 4), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right"
    )


def show(figure: Any) -> None:
    """Show a figure with its text equivalent, and close it.

    Args:
        figure: a matplotlib figure. In a notebook the image carries `text_of(figure)` as its alternative
        text;
            without one the text is printed.
    """
    import matplotlib.pyplot as plt

    text = text_of(figure)
    if _in_notebook():
        from IPython.display import display

        buffer = BytesIO()
        figure.savefig(buffer, format="png")
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        # JupyterLab gives an image/png output no alternative text; an img element keeps it.
        image = f'<img alt="{escape(text)}" src="data:image/png;base64,{data}">'
        display({"text/html": image, "text/plain": text}, raw=True)
    else:
        print(text)
    plt.close(figure)


def text_of(figure: Any) -> str:
    """What a figure says, in words: its titles, axes, bars and lines, from the data that is drawn.

    Example:
        >>> text_of(figure)  # doctest: +SKIP
        'Memory. x: requests; y: GB. Line "model": 2 points from (1, 3) to (2, 4).'
    """
    return " ".join(" ".join(_sentences(axes)) for axes in figure.axes)


def _sentences(axes: Any) -> list[str]:
    said = []
    title = axes.get_title("left") or axes.get_title() or axes.get_title("right")
    if title:
        said.append(f"{title}.".replace("\n", " "))
    names = [(k, label) for k, label in (("x", axes.get_xlabel()), ("y", axes.get_ylabel())) if label]
    if names:
        said.append("; ".join(f"{k}: {label}" for k, label in names).replace("\n", " ") + ".")
    said += [_bars(axes, group) for group in axes.containers if hasattr(group, "patches")]
    lines = [a for a in axes.get_lines() if a.get_gid() == SAID or not a.get_label().startswith("_")]
    said += [_line(line) for line in lines]
    said += [text.get_text().replace("\n", "; ") + "." for text in axes.texts if text.get_gid() == SAID]
    return said


def _bars(axes: Any, group: Any) -> str:
    flat = group.orientation == "horizontal"
    named = _names(axes.yaxis if flat else axes.xaxis)
    # Bars that all stand on one other number than 0 show where they end; stacked ones show how long they are.
    starts = {bar.get_x() if flat else bar.get_y() for bar in group.patches}
    start = starts.pop() if len(starts) == 1 else 0
    said = []
    for bar in group.patches[:MOST_BARS]:
        place = bar.get_y() + bar.get_height() / 2 if flat else bar.get_x() + bar.get_width() / 2
        value = (bar.get_width() if flat else bar.get_height()) + start
        said.append(f"{named(place)} {_number(value)}")
    more = f", and {len(group.patches) - MOST_BARS} more" if len(group.patches) > MOST_BARS else ""
    label = "" if group.get_label().startswith("_") else f' "{group.get_label()}"'
    return f"Bars{label}: {', '.join(said)}{more}."


def _names(axis: Any) -> Callable[[float], str]:
    """What a bar at some place is called: by its tick, which has a name for all that stands around it.

    Ticks that only count along the axis are names of their own places alone.
    """
    from matplotlib.category import StrCategoryLocator
    from matplotlib.ticker import FixedLocator, ScalarFormatter

    labels = [label.get_text() for label in axis.get_ticklabels()]
    ticks = dict(zip(map(float, axis.get_ticklocs()), labels, strict=False))
    spaces = np.diff(sorted(ticks))
    given = isinstance(axis.get_major_locator(), FixedLocator | StrCategoryLocator)
    words = given and not isinstance(axis.get_major_formatter(), ScalarFormatter)
    reach = 1e-6 if not words else spaces.min() / 2 if spaces.size else 0.5

    def named(place: float) -> str:
        near = min(ticks, key=lambda tick: abs(tick - place), default=np.inf)
        return ticks[near] if abs(near - place) < reach else _number(place)

    return named


def _line(line: Any) -> str:
    x, y = (np.asarray(line.get_data(orig=False)[i], dtype=float) for i in (0, 1))
    name = line.get_label().removeprefix("_")
    if x.size == 0:
        return f'Line "{name}": empty.'
    if x.size == 1:
        return f'Point "{name}": ({_number(x[0])}, {_number(y[0])}).'
    if x.size == 2 and y[0] == y[1] and tuple(x) == (0.0, 1.0):
        return f'Bound "{name}": {_number(y[0])}.'
    if x.size == 2 and x[0] == x[1] and tuple(y) == (0.0, 1.0):
        return f'Line "{name}": at x {_number(x[0])}.'
    first, last = (f"({_number(x[i])}, {_number(y[i])})" for i in (0, -1))
    return f'Line "{name}": {x.size} points from {first} to {last}.'


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None
