"""The fragment of an explorer: sliders over the grid, and the same as tables for who has no scripts."""

from __future__ import annotations

import json
from html import escape
from itertools import product
from pathlib import Path
from typing import Any

from mlsys_lab._core.quantity import show
from mlsys_lab._core.style import PALETTE
from mlsys_lab.capacity.explore import AXES, Cell, Explorer

SCRIPT = Path(__file__).with_name("explore.js")
COLOURS = {
    "weights": "compute", "gathered weights": "compute", "optimizer": "communication", "gradients": "yours",
    "activations": "memory", "logits": "memory", "temporaries": "idle",
}  # fmt: skip
NAMES = {"micro_batch": "micro-batch", "zero": "ZeRO", "gpu": "GPU"}
WIDE = 16  # em, of the longest bar
_CELL = ' style="text-align:left;padding:2px 12px 2px 0"'


def as_html(e: Explorer) -> str:
    """Sliders, which a script shows, and below them what each alone would change."""
    start = e.at()
    live = (
        f'<div data-say="live" hidden><p>Move a slider with the mouse or the arrow keys.</p>{_sliders(e)}'
        f'<p aria-live="polite"><b data-say="gpus"></b>: <span data-say="fits"></span></p>'
        f"{_live_parts(e)}{_live_times(e)}</div>"
    )
    tables = "".join(_changes(e, name) for name in AXES if len(e.axes[name]) > 1)
    said = f"<p>{escape(_title(e))}: {escape(_fits(e, start, e.start['gpu']))}.</p>"
    script = SCRIPT.read_text(encoding="utf-8")
    data = json.dumps(_data(e), separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<div data-explorer="1">{said}{live}<details open><summary>As tables: what each slider alone changes'
        f"</summary>{tables}</details>"
        f'<script type="application/json">{data}</script><script>{script}</script></div>'
    )


def _data(e: Explorer) -> dict[str, Any]:
    """What the script looks up: cells in the order of the sliders."""
    parts, why = part_names(e), list(dict.fromkeys(c.why for c in e.cells.values() if c.why))
    cells: list[Any] = []
    for key in product(*(e.axes[name] for name in AXES[:-1])):
        c = e.cells[key]
        steps = [[float(f"{s:.6g}") for s in step] for step in c.step_s]
        cells.append([[c.parts.get(name, 0) for name in parts], steps] if c.parts else why.index(c.why))
    return {
        "axes": [[name, list(e.axes[name])] for name in AXES], "parts": parts, "why": why, "cells": cells,
        "memory": [on.memory_bytes for on in e.gpus], "rents": e.rents, "tokens": e.plan.tokens,
        "batch": e.plan.workload.batch, "cp": e.plan.parallel.cp,
    }  # fmt: skip


def part_names(e: Explorer) -> list[str]:
    """All parts that any layout has, what is there all the time first."""
    found = dict.fromkeys(name for c in e.cells.values() for name in c.parts)
    return sorted(found, key=lambda name: list(COLOURS).index(name) if name in COLOURS else len(COLOURS))


def _title(e: Explorer) -> str:
    p, w = e.layout()
    degrees = ", ".join(f"{NAMES.get(name, name)} {e.start[name]}" for name in AXES[:-1])
    return f"{e.plan.model.name} on {p.gpus:,} {e.start['gpu']} ({degrees}, batch {w.global_batch(p):,})"


def _fits(e: Explorer, c: Cell, gpu: str) -> str:
    if not c.parts:
        return f"no such layout: {c.why}"
    has = next(on.memory_bytes for on in e.gpus if on.name == gpu)
    over = c.peak_bytes - has
    if over <= 0:
        return f"it fits: {show(c.peak_bytes, 'B')} of {show(has, 'B')}"
    return f"it does not fit: {show(c.peak_bytes, 'B')}, {show(over, 'B')} more than {show(has, 'B')}"


def _sliders(e: Explorer) -> str:
    rows = []
    for name in AXES:
        values = list(e.axes[name])
        shown = " hidden" if len(values) == 1 else ""
        rows.append(
            f'<label style="display:block"{shown}><span style="display:inline-block;width:7em">'
            f"{escape(NAMES.get(name, name))}</span>"
            f'<input type="range" name="{name}" min="0" max="{len(values) - 1}" step="1" '
            f'value="{values.index(e.start[name])}" style="width:12em;vertical-align:middle"/> '
            f"<output>{escape(str(e.start[name]))}</output></label>"
        )
    return "".join(rows)


def _bar(size: float, whole: float, part: str = "activations") -> str:
    return (
        f'<span style="display:inline-block;height:0.8em;width:{WIDE * size / whole:.2f}em;'
        f'background:{PALETTE[COLOURS.get(part, "idle")]}" aria-hidden="true"></span>'
    )


def _live_parts(e: Explorer) -> str:
    """Rows that the script fills; the mark above the bars stands where the GPU's memory ends."""
    rows = "".join(
        f'<tr data-part="{escape(name)}"><th scope="row"{_CELL}>{escape(name)}</th><td{_CELL}></td>'
        f"<td{_CELL}></td><td{_CELL}>{_bar(0, 1, name)}</td></tr>"
        for name in part_names(e)
    )
    mark = (
        '<span data-say="mark" aria-hidden="true" style="position:absolute;bottom:0;border-left:2px solid;'
        'padding-left:3px;white-space:nowrap">memory of the GPU</span>'
    )
    head = (
        f'<th scope="col"{_CELL}>at the peak</th><th scope="col"{_CELL}>bytes on a GPU</th><th scope="col"'
        f'{_CELL}>share</th><td style="position:relative;min-width:{WIDE + 9}em">{mark}</td>'
    )
    return f'<table data-say="parts"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _live_times(e: Explorer) -> str:
    named = {"step": "a step"}
    named |= {"time": "the run, without restarts", "cost": "its rent"} if e.plan.tokens else {}
    rows = "".join(
        f'<tr><th scope="row"{_CELL}>{text}</th><td data-say="{key}"{_CELL}></td></tr>'
        for key, text in named.items()
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _changes(e: Explorer, name: str) -> str:
    """A slider's values one under the other, all others as in the plan."""
    cells = {value: e.at(**{name: value}) for value in e.axes[name]}
    most = max([*(c.peak_bytes for c in cells.values()), *(on.memory_bytes for on in e.gpus), 1])
    rows = []
    for value, c in cells.items():
        gpu = value if name == "gpu" else e.start["gpu"]
        step = c.step_s[list(e.axes["gpu"]).index(gpu)] if c.parts else None
        took = "-" if step is None else f"{show(step[1], 's')} ({show(step[0], 's')} to {show(step[2], 's')})"
        own = " (the plan)" if value == e.start[name] else ""
        rows.append(
            f'<tr><th scope="row"{_CELL}>{escape(str(value))}{own}</th><td{_CELL}>{escape(_fits(e, c, gpu))}'
            f"</td><td{_CELL}>{_bar(c.peak_bytes, most)}</td><td{_CELL}>{took}</td></tr>"
        )
    named = (escape(NAMES.get(name, name)), "memory of a GPU", "", "a step")
    top = "".join(f'<th scope="col"{_CELL}>{text}</th>' if text else "<td></td>" for text in named)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
