"""The report as people read it: the source with what each line costs, as text and as HTML."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlsys_lab.kernels.lines import Line
    from mlsys_lab.kernels.report import Report

NOT_KNOWN = (
    "Counted on PTX, before the assembler: it may merge, unroll or spill, so totals of instructions and "
    "requests can differ on a GPU. Sectors per request and bank conflicts of 32-bit accesses compare with "
    "Nsight Compute. "
    "Cache hits, DRAM traffic and time are not simulated."
)


def totals(report: Report) -> list[tuple[str, str]]:
    """The totals, each with its explanation in numbers."""
    shared = report.shared

    def moved(x: Any) -> str:
        if not x.requests:
            return "-"
        return f"{x.requests:,} requests, {x.sectors:,} sectors, {x.efficiency:.0%} of their bytes used"

    taken = f"{shared.requests:,} requests, {shared.wavefronts:,} wavefronts, {shared.conflicts:,} conflicts"
    return [
        ("global loads", moved(report.global_loads)),
        ("global stores", moved(report.global_stores)),
        ("shared memory", taken),
        ("lanes", f"{report.active:.0%} of the lanes of running warps active"),
        ("FLOPs", f"{report.flops:,}, {report.intensity:.3g} per byte of global memory"),
        ("warp instructions", f"{report.instructions:,}"),
    ]


def problems(report: Report) -> list[str]:
    """Errors and races, one line each."""
    return [e.message for e in report.errors] + [f"{r.message}" for r in report.races]


def cells(line: Line) -> tuple[str, ...]:
    """What stands beside a source line, see `HEADS`; nothing for what is as it should be."""
    requests = line.loads.requests + line.stores.requests
    sectors = line.loads.sectors + line.stores.sectors
    return (
        f"{line.instructions:,}" if line.instructions else "",
        f"{line.active:.0%}" if line.instructions and line.active < 0.995 else "",
        f"{sectors / requests:.3g}" if requests else "",
        f"{line.shared.conflicts:,}" if line.shared.conflicts else "",
        f"{line.flops:,}" if line.flops else "",
    )


HEADS = ("instr.", "active", "sectors/req.", "conflicts", "FLOPs")
WIDTHS = (9, 7, 12, 9, 11)


def row(number: Any, shown: tuple[str, ...], text: str = "") -> str:
    """One line of the listing as text."""
    columns = " ".join(f"{cell:>{width}}" for cell, width in zip(shown, WIDTHS, strict=True))
    return f"{number:>5} {columns}  {text}".rstrip()


def as_text(report: Report) -> str:
    """The report for a terminal."""
    out = [report.launch, ""] if report.launch else []
    out += [f"{name:18} {value}" for name, value in totals(report)]
    out += ["", row("", HEADS)]
    for number, text in enumerate(report.source.splitlines(), 1):
        found = report.lines.get(number)
        out.append(row(number, cells(found) if found else ("",) * len(HEADS), text.expandtabs(4)))
    if report.printed:
        out += ["", "printed:", "".join(report.printed).removesuffix("\n")]
    wrong = problems(report)
    out += ["", *(wrong or ["no error and no race found"]), "", NOT_KNOWN]
    return "\n".join(out)


STYLE = """
.kernel { font: 13px/1.45 ui-monospace, monospace; color: #111; background: #fff; border-collapse: collapse }
.kernel td, .kernel th { padding: 0 .7em; text-align: right; white-space: pre; border: 0 }
.kernel td.code { text-align: left }
.kernel td.number { color: #595959 }
.kernel th { color: #444; font-weight: 600; text-align: right }
.kernel-problem { color: #8a1c00; font: 14px/1.5 sans-serif; margin: .2em 0 }
.kernel-launch { font: 600 14px/1.5 sans-serif; color: #111; margin: .2em 0 }
.kernel-total { font: 14px/1.5 sans-serif; border-collapse: collapse; margin: .4em 0; color: #111;
  background: #fff }
.kernel-total td { padding: 0 .8em 0 0; text-align: left }
.kernel-note { font: 12px/1.4 sans-serif; color: #595959; max-width: 60em }
"""


def heat(value: float, most: float) -> str:
    """A background from white to orange for a share of the dearest line."""
    share = value / most if most else 0.0
    return (
        f"background: rgb(255, {255 - round(95 * share)}, {255 - round(175 * share)})" if share > 0.02 else ""
    )


def as_html(report: Report) -> str:
    """The report for a notebook: annotated source, the dearest cells warm; what it says needs no colour.

    Idle lanes are warm by their share, whatever other lines do; sectors as far as they are more than the
    fewest that could hold what was asked for.
    """
    measures: list[Callable[[Line], float]] = [
        lambda x: x.instructions,
        lambda x: 1 - x.active,
        lambda x: x.loads.sectors - x.loads.fewest + x.stores.sectors - x.stores.fewest,
        lambda x: x.shared.conflicts,
        lambda x: x.flops,
    ]
    most = [max((m(x) for x in report.lines.values()), default=0) for m in measures]
    most[HEADS.index("active")] = 1
    rows = []
    for number, text in enumerate(report.source.splitlines(), 1):
        found = report.lines.get(number)
        shown = cells(found) if found else ("",) * len(HEADS)
        styles = [heat(m(found), top) if found else "" for m, top in zip(measures, most, strict=True)]
        marked = "".join(f'<td style="{s}">{c}</td>' for s, c in zip(styles, shown, strict=True))
        code = f'<td class="code">{escape(text.expandtabs(4))}</td>'
        rows.append(f'<tr><td class="number">{number}</td>{marked}{code}</tr>')
    head = "".join(f'<th scope="col">{h}</th>' for h in ("line", *HEADS))
    total = "".join(f"<tr><td>{n}</td><td>{escape(v)}</td></tr>" for n, v in totals(report))
    launch = f'<p class="kernel-launch">{escape(report.launch)}</p>' if report.launch else ""
    wrong = "".join(f'<p class="kernel-problem">{escape(p)}</p>' for p in problems(report))
    same = "".join(f'<p class="kernel-note">{escape(r.message)}</p>' for r in report.same_value_writes)
    estimated = f"<p>{escape(str(report.estimate))}</p>" if report.estimate else ""
    printed = f"<p>Printed:</p><pre>{escape(''.join(report.printed))}</pre>" if report.printed else ""
    return (
        f"<style>{STYLE}</style>{launch}{wrong or '<p>No error and no race found.</p>'}"
        f'{printed}<table class="kernel-total">{total}</table>'
        f'<table class="kernel"><tr>{head}<th scope="col" style="text-align:left">source</th></tr>'
        f"{''.join(rows)}</table>"
        f'{estimated}{same}<p class="kernel-note">{NOT_KNOWN}</p>'
    )
