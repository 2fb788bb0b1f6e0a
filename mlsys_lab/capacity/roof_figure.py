"""The picture of a roofline, its page, and in a notebook picture and table together."""

from __future__ import annotations

import base64
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsys_lab._core.style import PALETTE

if TYPE_CHECKING:
    from mlsys_lab.capacity.roofline import Placed, Roofline

_CELL = ' style="text-align:left;padding:2px 12px 2px 0"'


def drawn(found: Roofline) -> Any:
    """Roofs by level and dtype, and each operation under them with the number of its row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    roof, dtype = found.roof, found.dtype
    at = [p.intensity for p in found.points]
    peak = roof.peak(dtype)
    left = min([0.25, *(x / 2 for x in at)])
    right = max([8 * roof.ridge(dtype), *(x * 2 for x in at)])
    figure = Figure(figsize=(8.6, 4.4), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    for level, speed in roof.bandwidths.items():
        last = speed == roof.bandwidth
        ridge = peak / speed
        axes.plot([left, ridge, right], [left * speed, peak, peak], color=PALETTE["reference"],
                  lw=2 if last else 1, ls="-" if last else ":",
                  label=f"{dtype}, {level} {speed / 1e9:,.0f} GB/s")  # fmt: skip
    for most in {speed for speed in roof.peaks.values() if speed != peak and speed / roof.bandwidth < right}:
        names = ", ".join(name for name, speed in roof.peaks.items() if speed == most)
        axes.plot([most / roof.bandwidth, right], [most, most], color=PALETTE["idle"], lw=1, ls="--")
        axes.annotate(names, (right, most), (-2, 2), textcoords="offset points", ha="right", fontsize=8)
    for i, p in enumerate(found.points, 1):
        memory = p.intensity < roof.ridge(dtype)
        axes.plot(p.intensity, _height(found, p), "o", color=PALETTE["memory" if memory else "compute"], ms=8,
                  zorder=3, label=f"{i} {p.name}: {_plain(p.intensity)}")  # fmt: skip
    for i, (numbers, x, y) in enumerate(_together(found)):
        slope = x < roof.ridge(dtype)  # beside the slope, above and below the flat part
        place, side = ((-7, 3), "right") if slope else ((0, -15 if i % 2 else 7), "center")
        ground = {"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none"}
        axes.annotate(numbers, (x, y), place, textcoords="offset points", ha=side, fontsize=9, bbox=ground)
    axes.set(xlabel="intensity (FLOP/byte)", ylabel="FLOP/s", xlim=(left, right))
    axes.grid(alpha=0.3)
    axes.set_title(title(found), loc="left", fontsize=11, fontweight="bold")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    return figure


def _height(found: Roofline, p: Placed) -> float:
    return p.reached or found.roof.most(p.intensity, found.dtype)


def _together(found: Roofline) -> list[tuple[str, float, float]]:
    """The points' numbers and places from left to right; those that lie on each other have one label."""
    order = sorted(enumerate(found.points, 1), key=lambda each: (each[1].intensity, each[0]))
    labels: list[tuple[str, float, float]] = []
    for i, p in order:
        y = _height(found, p)
        near = labels and p.intensity < 1.12 * labels[-1][1] and abs(y / labels[-1][2] - 1) < 0.12
        if near:
            numbers, x, there = labels[-1]
            labels[-1] = (f"{numbers}, {i}", x, there)
        else:
            labels.append((str(i), p.intensity, y))
    return labels


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def title(found: Roofline) -> str:
    """What the picture says."""
    ridge = found.roof.ridge(found.dtype)
    text = f"{found.roof.name}: {found.dtype} needs {ridge:.3g} FLOP/byte to reach its peak"
    if not found.points:
        return text
    bound = sum(p.intensity < ridge for p in found.points)
    return f"{text};\n{bound} of {len(found.points)} operations are bound by memory"


def as_html(found: Roofline) -> str:
    """Picture and table; the picture's text says what the table shows."""
    buffer = BytesIO()
    found.figure().savefig(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    alt = f"Roofline. {title(found)}. The table below has every number.".replace("\n", " ")
    peaks = "; ".join(found.lines()[3 : 3 + len(found.roof.peaks)])
    parts = [
        f'<img alt="{escape(alt)}" style="max-width:100%" src="data:image/png;base64,{data}"/>',
        f"<p>{escape(' '.join(peaks.split()))}. Source: {escape(found.roof.source)}.</p>",
    ]
    if found.points:
        head, *rows = found.rows()
        top = "".join(f'<th scope="col"{_CELL}>{escape(c)}</th>' for c in ["#", *head])
        body = "".join(
            f'<tr><td{_CELL}>{i}</td><th scope="row"{_CELL}>{escape(row[0])}</th>'
            + "".join(f"<td{_CELL}>{escape(c)}</td>" for c in row[1:])
            + "</tr>"
            for i, row in enumerate(rows, 1)
        )
        parts.append(f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>")
    return f"<div>{''.join(parts)}</div>"


def save(found: Roofline, path: Path) -> None:
    """Write the picture as .png, or picture and table as .html.

    Raises:
        ValueError: neither ending, or the file cannot be written.
    """
    if path.suffix not in (".png", ".html"):
        raise ValueError(f"--out {path}: give a name that ends in .png or .html")
    try:
        if path.suffix == ".png":
            found.figure().savefig(path, format="png")
        else:
            page(path, f"Roofline of {found.roof.name}", as_html(found))
    except OSError as error:
        raise ValueError(f"--out {path} cannot be written: {error.strerror}") from None


def page(path: Path, title: str, fragment: str) -> None:
    """A fragment as a page of its own, light or dark as the reader has it."""
    path.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" '
        f'content="light dark"><title>{escape(title)}</title></head>'
        f'<body style="font-family:sans-serif;margin:1em"><h1 style="font-size:1.3em">{escape(title)}</h1>'
        f"{fragment}</body></html>",
        encoding="utf-8",
    )
