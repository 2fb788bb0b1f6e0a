"""A trace in a notebook: what is alive moment by moment, and what the peak is made of."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from mlsys_lab._core.quantity import show
from mlsys_lab._core.style import PALETTE

if TYPE_CHECKING:
    from mlsys_lab.capacity.liveness import Trace

COLOURS = {"parameters": "compute", "buffers": "compute", "inputs": "compute", "optimiser": "communication",
           "gradients": "yours", "activations": "memory", "temporaries": "idle"}  # fmt: skip
WIDE, HIGH, COLUMNS, LINES = 640, 200, 320, 8  # pixels, columns drawn, lines told
_CELL = ' style="text-align:left;padding:2px 12px 2px 0"'


def as_html(trace: Trace) -> str:
    """The timeline with a table of the peak by part, and one by line."""
    peak = trace.peak_bytes
    said = f"The step needs {show(peak, 'B')} at its peak"
    if trace.hidden_bytes:
        said += f", and up to {show(trace.hidden_bytes, 'B')} more where nobody can see it"
    parts = trace.parts_at_peak()
    listed = ", ".join(f"{name} {show(size, 'B')}" for name, size in parts.items())
    lines = dict(list(trace.lines_at_peak().items())[:LINES])
    return (
        f"<div><p>{said}.</p>{_drawn(trace, f'{said}: {listed}')}"
        f"{_table('part', parts, peak, colours=True)}"
        f"<details><summary>By line of the program</summary>{_table('line', lines, peak)}</details></div>"
    )


def _drawn(trace: Trace, text: str) -> str:
    """Areas by part, one on the other; each column shows the fullest of its moments."""
    peak, timeline = trace.peak_bytes, trace.timeline
    step = max(1, -(-len(timeline) // COLUMNS))
    moments = [max(range(at, min(at + step, len(timeline))), key=timeline.__getitem__)
               for at in range(0, len(timeline), step)]  # fmt: skip
    below = [0] * len(moments)
    areas = []
    for part in COLOURS:
        sizes = _of(trace, part, moments)
        if not any(sizes):
            continue
        top = [b + s for b, s in zip(below, sizes, strict=True)]
        edge = [f"{x * WIDE / len(moments):.1f} {HIGH - HIGH * y / peak:.1f}" for i, y in enumerate(top)
                for x in (i, i + 1)]  # fmt: skip
        back = [f"{x * WIDE / len(moments):.1f} {HIGH - HIGH * y / peak:.1f}"
                for i, y in reversed(list(enumerate(below))) for x in (i + 1, i)]  # fmt: skip
        areas.append(f'<path d="M{"L".join(edge + back)}Z" fill="{PALETTE[COLOURS[part]]}"/>')
        below = top
    at = next(i for i, moment in enumerate(moments) if timeline[moment] == peak)
    x = (at + 0.5) * WIDE / len(moments)
    side, place = ("end", x - 6) if x > WIDE / 2 else ("start", x + 6)
    return (
        f'<svg role="img" aria-label="{escape(text)}" width="{WIDE}" height="{HIGH + 40}" '
        f'viewBox="0 -20 {WIDE} {HIGH + 40}" style="max-width:100%">{"".join(areas)}'
        f'<path d="M0 {HIGH}H{WIDE}" stroke="currentColor"/>'
        f'<path d="M{x:.1f} -14V{HIGH}" stroke="currentColor" stroke-dasharray="3 3"/>'
        f'<text x="{place:.1f}" y="-7" font-size="13" text-anchor="{side}" fill="currentColor">peak '
        f"{show(peak, 'B')}</text>"
        f'<text x="0" y="{HIGH + 16}" font-size="13" fill="currentColor">moments: '
        f"{len(timeline):,} allocations and releases</text></svg>"
    )


def _of(trace: Trace, part: str, moments: list[int]) -> list[int]:
    """Bytes of a part that are alive at each of the moments, which ascend."""
    changes = [0] * (len(trace.timeline) + 1)
    for s in trace.storages:
        if s.part == part:
            changes[s.born] += s.bytes
            if s.died is not None:
                changes[s.died] -= s.bytes
    alive, now = [], 0
    for change in changes:
        now += change
        alive.append(now)
    return [alive[moment] for moment in moments]


def _table(title: str, sizes: dict[str, int], peak: int, *, colours: bool = False) -> str:
    rows = []
    for name, size in sizes.items():
        mark = (
            '<span aria-hidden="true" style="display:inline-block;width:0.8em;height:0.8em;margin-right:4px;'
            f'background:{PALETTE[COLOURS.get(name, "idle")]}"></span>'
        )
        rows.append(
            f'<tr><th scope="row"{_CELL}>{mark if colours else ""}{escape(name or "there before")}</th>'
            f"<td{_CELL}>{escape(show(size, 'B'))}</td><td{_CELL}>{size / peak:.1%}</td></tr>"
        )
    head = "".join(f'<th scope="col"{_CELL}>{text}</th>' for text in (title, "bytes at the peak", "share"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
