"""`mlsys-lab estimate roofline`: a device's or one's own roof, and where a model's operations lie."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mlsys_lab._core.hardware import device
from mlsys_lab.capacity.machine import kept_at
from mlsys_lab.capacity.options import AsJson, Explain, FailIf, say
from mlsys_lab.capacity.zoo import language_model


def roofline(
    name: Annotated[str, typer.Argument(metavar="[MODEL]", help="Whose operations are placed.")] = "",
    gpu: Annotated[str, typer.Option(help="A100, H100, ...")] = "",
    measure: Annotated[bool, typer.Option("--measure", help="This machine; needs torch.")] = False,
    batch: Annotated[int, typer.Option(help="Sequences.")] = 1,
    context: Annotated[int, typer.Option(help="Tokens of each; 0: the model's, at most 2048.")] = 0,
    dtype: Annotated[str, typer.Option(help="bf16, fp16, fp32, fp8, ...; by default 16 bits.")] = "",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="A picture: .png or .html.")] = None,
    as_json: AsJson = False,
    explain: Explain = False,
    fail_if: FailIf = None,
) -> None:
    """Peaks, bandwidth and ridge of a device, and a model's operations under its roof.

    With --measure the roof is that of this machine: single operations over a grid of sizes, in one thread,
    in about half a minute; kept, so that it is measured once.

    Example: mlsys-lab estimate roofline llama-2-7b --gpu A100 --batch 16 --context 4096 --out roof.png
    """
    from mlsys_lab.capacity import roof_figure
    from mlsys_lab.capacity.roofline import roofline as found_for

    if bool(gpu) == measure:
        raise ValueError(
            "give one of --gpu and --measure: --gpu A100 for a device, --measure for this machine"
        )
    if batch < 1 or context < 0:
        name_of, number = ("batch", batch) if batch < 1 else ("context", context)
        raise ValueError(f"--{name_of} has to be at least 1, got {number}")
    m = language_model(name) if name else None
    if out is not None and out.suffix not in (".png", ".html"):
        raise ValueError(f"--out {out}: give a name that ends in .png or .html")
    what = _this_machine() if measure else device(gpu)
    found = found_for(what, m, batch=batch, context=context, dtype=dtype)
    if out is not None:
        roof_figure.save(found, out)
        print(f"written: {out}", file=sys.stderr)
    say(found, as_json, explain, fail_if)


def _this_machine() -> Any:
    """This machine, measured now where it was not yet, with a bar on a terminal."""
    try:
        from mlsys_lab.capacity.calibrate import CLASSES, this_machine
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ValueError(
            "--measure runs torch's operations and there is no torch: pip install torch"
        ) from None
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:34.34}"), BarColumn(), TimeElapsedColumn())
    measured: list[str] = []
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=CLASSES)

        def tell(kind: str) -> None:
            if not measured:
                print("measuring single operations in one thread, about half a minute", file=sys.stderr)
            measured.append(kind)
            bar.update(task, completed=len(measured) - 1, description=kind)

        found = this_machine(tell)
    print(f"{'kept in' if measured else 'as measured before:'} {kept_at()}", file=sys.stderr)
    return found
