"""What a learner sees when a check fails: expected, yours and the difference, drawn, and the same in words.

Both come from one comparison, so that the picture and its text equivalent cannot disagree. Outside a notebook
the words alone are printed.
"""

from __future__ import annotations

import base64
import textwrap
from html import escape
from io import BytesIO
from typing import Any

import numpy as np

from autograder.compare import Mismatch
from autograder.run_tests import TestResult

#: Okabe and Ito's reddish purple and black: "yours" and "reference" in every figure of the course.
YOURS, EXPECTED = "#CC79A7", "#000000"
MOST_POINTS = 10_000
FEW = 20


def show_failure(question: str, result: TestResult, passed: int, total: int, not_run: int = 0) -> None:
    """Print one failed test and, where two arrays differ, draw them.

    Args:
        question: `hw1.q1a`.
        result: the first failed test.
        passed, total: how many tests of the question pass.
        not_run: how many were not run, since this one ran out of time.
    """
    _say(f"{question}: {passed} of {total} tests pass. First that does not: {result.title}", indent="")
    _say(result.message)
    if not_run:
        _say(f"Not run after it: {not_run}.")
    for line in described(result.mismatch) if result.mismatch is not None else []:
        _say(line)
    _say("Stuck? Open hint 1 below the exercise.")
    if result.mismatch is not None and _in_notebook():
        picture = drawn(result.mismatch)
        if picture:
            _display(picture)


def _say(text: str, indent: str = "  ") -> None:
    """Print a line, broken between words where a notebook's page would break it anywhere."""
    print(textwrap.fill(text, 96, initial_indent=indent, subsequent_indent="    ", drop_whitespace=True))


def described(mismatch: Mismatch) -> list[str]:
    """The text equivalent of the drawing: input, both sides, and where they differ most."""
    lines = []
    if mismatch.input is not None:
        lines.append(f"input:    {_text(mismatch.input)}")
    lines += [f"expected: {_text(mismatch.expected)}", f"yours:    {_text(mismatch.actual)}"]
    pair = _numeric_pair(mismatch)
    if pair is not None and pair[0].ndim:
        expected, actual = pair
        lines += _first_off(mismatch, expected, actual)
        gap = np.abs(actual - expected)
        worst = np.unravel_index(int(np.argmax(np.where(np.isnan(gap), np.inf, gap))), gap.shape)
        place = ", ".join(str(int(i)) for i in worst)
        lines.append(f"most off at [{place}]: {_apart(expected[worst], actual[worst])}")
    return lines


def _apart(expected: float, actual: float) -> str:
    """Both values, with as many digits as it takes to tell them apart."""
    for digits in (6, 9, 12, 17):
        shown = f"{expected:.{digits}g}", f"{actual:.{digits}g}"
        if shown[0] != shown[1]:
            break
    return f"expected {shown[0]}, yours {shown[1]}"


def _first_off(mismatch: Mismatch, expected: np.ndarray, actual: np.ndarray) -> list[str]:
    """Of a row of whole numbers, where it leaves the right way: what follows may only follow from that."""
    if expected.ndim != 1 or np.asarray(mismatch.expected).dtype.kind not in "iub":
        return []
    first = int(np.argmax(actual != expected))
    return [f"first off at [{first}]: {_apart(expected[first], actual[first])}"]


def drawn(mismatch: Mismatch) -> str | None:
    """An HTML figure of expected, yours and difference for arrays of one or two axes, else None."""
    pair = _numeric_pair(mismatch)
    if pair is None or pair[0].ndim not in (1, 2) or not 2 <= pair[0].size <= MOST_POINTS:
        return None
    expected, actual = pair
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    (_draw_lines if expected.ndim == 1 else _draw_grids)(figure, expected, actual)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    words = escape("; ".join(described(mismatch)))
    return f'<figure class="check"><img alt="{words}" src="data:image/png;base64,{data}"></figure>'


def _draw_lines(figure: Any, expected: np.ndarray, actual: np.ndarray) -> None:
    both, apart = figure.subplots(1, 2)
    index = np.arange(expected.size)
    lines = expected.size > FEW  # between a few values there is nothing to connect
    both.plot(index, actual, color=YOURS, marker="o", markersize=6, linestyle="-" if lines else "")
    both.plot(
        index,
        expected,
        color=EXPECTED,
        marker="." if lines else "x",
        linestyle="--" if lines else "",
        linewidth=1,
    )
    both.set_title("Expected (black), yours (purple)", fontsize=9)
    apart.bar(index, actual - expected, color=YOURS)
    apart.axhline(0, color=EXPECTED, linewidth=0.8)
    apart.set_title("Yours - expected", fontsize=9)
    if _far_apart(expected, actual):
        both.set_yscale("symlog")
        apart.set_yscale("symlog")
    for axes in (both, apart):
        axes.set_xlabel("index")
        _whole_ticks(axes.xaxis)


def _whole_ticks(*each: Any) -> None:
    """Ticks of an axis that counts: nothing lies at column 2.5, and a single row needs one tick."""
    for axis in each:
        axis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def _far_apart(*sides: np.ndarray) -> bool:
    """Do the values differ by more than a thousandfold, so that the small ones would lie on the axis?"""
    sizes = np.abs(np.concatenate([s[np.isfinite(s) & (s != 0)] for s in sides]))
    return bool(sizes.size) and bool(sizes.max() > 1_000 * sizes.min())


def _draw_grids(figure: Any, expected: np.ndarray, actual: np.ndarray) -> None:
    gap = actual - expected
    finite = np.concatenate([expected[np.isfinite(expected)], actual[np.isfinite(actual)], [0.0]])
    reach = float(np.max(np.abs(gap[np.isfinite(gap)]), initial=0.0)) or 1.0
    panels = [
        ("Expected", expected, {"vmin": finite.min(), "vmax": finite.max(), "cmap": "viridis"}),
        ("Yours", actual, {"vmin": finite.min(), "vmax": finite.max(), "cmap": "viridis"}),
        ("Yours - expected", gap, {"vmin": -reach, "vmax": reach, "cmap": "PuOr"}),
    ]
    for axes, (title, values, options) in zip(figure.subplots(1, 3), panels, strict=True):
        image = axes.imshow(values, aspect="auto", interpolation="nearest", **options)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("column")
        axes.grid(False)
        _whole_ticks(axes.xaxis, axes.yaxis)
        figure.colorbar(image, ax=axes)
    figure.axes[0].set_ylabel("row")


def _numeric_pair(mismatch: Mismatch) -> tuple[np.ndarray, np.ndarray] | None:
    """Both sides as float64 arrays of one shape, or None where they are not."""
    try:
        expected = np.asarray(mismatch.expected, dtype=np.float64)
        actual = np.asarray(mismatch.actual, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return (expected, actual) if expected.shape == actual.shape and expected.size else None


def _text(value: Any, limit: int = 160) -> str:
    if isinstance(value, np.ndarray):
        with np.printoptions(threshold=12, edgeitems=3, precision=4, suppress=True):
            body = " ".join(str(value).split())
        shown = f"{body}  shape {value.shape}, {value.dtype}"
    elif isinstance(value, dict):
        shown = "{" + ", ".join(f"{k!r}: {_text(v, 60)}" for k, v in value.items()) + "}"
    elif isinstance(value, tuple) and any(isinstance(v, np.ndarray) for v in value):
        shown = "; ".join(_text(v, 80) for v in value)
    else:
        shown = " ".join(repr(value).split())
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def _display(picture: str) -> None:
    from IPython.display import HTML, display

    display(HTML(picture))
