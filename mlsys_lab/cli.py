"""The command `mlsys-lab`: one app over the library's and the autograder's commands.

Exit codes: 0 done, 1 what was checked failed, 2 wrong usage (one line that names the fix), 130 interrupted.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

PACKAGE = Path(__file__).resolve().parent

app = typer.Typer(
    name="mlsys-lab",
    help="A course on machine-learning systems: labs, homework, an autograder.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Say what this machine has and can promise.

    Which sandbox levels work here, and what each of them holds.

    Example: mlsys-lab doctor
    """
    from autograder.doctor import examine

    raise typer.Exit(examine(as_json=as_json, say=print))


@app.command(name="test", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run_tests(
    context: typer.Context,
    shots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also make every picture there is.")
    ] = None,
) -> None:
    """Run the project's tests; further arguments are pytest's.

    Example: mlsys-lab test -k compare
    """
    root = PACKAGE.parent
    if not (root / "tests").is_dir():
        raise _usage()("the tests are in the repository, not in the installed package: clone it")
    environment = dict(os.environ)
    if shots is not None:
        environment["MLSYS_LAB_SHOTS"] = str(shots.resolve())
    arguments = context.args or ["-n3", "--dist=loadscope", "--no-loadscope-reorder"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], cwd=root, env=environment, check=False
    )
    raise typer.Exit(done.returncode)


@app.command()
def demo(
    name: Annotated[str, typer.Argument(help="Which one; without it the demos are listed.")] = "",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to: .html, or .png for chosen steps.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
) -> None:
    """Write a demo as a page that one steps through, and open it.

    It goes to demos/NAME.html in the current folder unless --out says otherwise.

    Example: mlsys-lab demo autograd
    """
    from mlsys_lab.kernels import NoFrontEnd
    from mlsys_lab.viz.demos import DEMOS

    if not name:
        wide = max(map(len, DEMOS))
        for key, make in DEMOS.items():
            print(f"{key:{wide}}  {make.__doc__}")
        return
    if name not in DEMOS:
        raise _usage()(f"no demo is called {name!r}: {', '.join(DEMOS)}")
    path = out or Path("demos") / f"{name}.html"
    if path.suffix not in (".html", ".png"):
        raise _usage()(f"--out takes a name that ends in .html or .png, got {path}")
    try:
        stepper = DEMOS[name]()
    except NoFrontEnd as error:
        raise _usage()(f"the demo {name} runs kernels, and {error}") from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        (stepper.filmstrip if path.suffix == ".png" else stepper.save)(path)
    except OSError as error:
        raise _usage()(f"{path} cannot be written ({error.strerror}): give another --out") from None
    print(f"written: {path}")
    if browser and not webbrowser.open(path.resolve().as_uri()):
        print("no browser started: open the file in one")


@app.command()
def kernel(
    file: Annotated[Path, typer.Argument(metavar="FILE.cu", help="The source, CUDA C++.")],
    name: Annotated[str, typer.Option(help="Which kernel; may be left out where there is one.")] = "",
    grid: Annotated[str, typer.Option(help="Blocks along x, y, z.")] = "1",
    block: Annotated[str, typer.Option(help="Threads along x, y, z.")] = "32",
    arg: Annotated[
        list[str] | None, typer.Option(help="An argument, in order: f32[1024]:random, i32:1024.")
    ] = None,
    shared: Annotated[int, typer.Option(help="Bytes of dynamic shared memory.")] = 0,
    gpu: Annotated[
        str, typer.Option(help="Also registers, occupancy and a roofline there: A100, H100, ...")
    ] = "",
    seconds: Annotated[float, typer.Option(help="Give up after so many seconds of computing.")] = 20.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the annotated source.")] = None,
) -> None:
    """Run a kernel on the simulator and print what it would do on a GPU, line by line.

    Exit code 1 where an error or a race was found.

    Example: mlsys-lab kernel saxpy.cu --grid 4 --block 256 --arg f32:2 --arg f32[1024]:random --arg f32[1024]
    """
    import json

    from mlsys_lab.kernels import CompileError, CudaKernel, NoFrontEnd, NotSimulated
    from mlsys_lab.kernels.command import argument, sizes
    from mlsys_lab.kernels.estimate import architecture, estimate
    from mlsys_lab.kernels.frontend import PRECOMPILED_FOR
    from mlsys_lab.kernels.refusals import needed

    if not file.is_file():
        raise _usage()(f"{file} is not there: name a file with CUDA C++")
    try:
        arch = needed(file.read_text("utf-8"), architecture(gpu) if gpu else PRECOMPILED_FOR)
        made = CudaKernel(file, name, arch=arch)
        launch = made[sizes(grid, "grid"), sizes(block, "block"), shared]
        report = launch(*(argument(a, i) for i, a in enumerate(arg or [])), seconds=seconds)
        assert report is not None
        threads = launch.block[0] * launch.block[1] * launch.block[2]
        there = estimate(made.source, made.name, threads, shared, report, gpu) if gpu else None
        report.estimate = there
    except (CompileError, NoFrontEnd, NotSimulated, TypeError, ValueError) as error:
        raise _usage()(" ".join(f"{file}: {error}".split())) from None
    if html is not None:
        try:
            html.write_text(
                f'<meta charset="utf-8"><title>{file.name}</title>{report._repr_html_()}', "utf-8"
            )
        except OSError as error:
            raise _usage()(f"{html} cannot be written ({error.strerror}): give another --html") from None
        print(f"written: {html}", file=sys.stderr)
    if as_json:
        print(json.dumps(report.to_json() | ({"gpu": there.to_json()} if there else {}), indent=1))
    else:
        print(report, *(["", there] if there else []), sep="\n")
    raise typer.Exit(1 if report.errors or report.races else 0)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def estimate(context: typer.Context) -> None:
    """Parameters, memory, time and cost of a model.

    Example: mlsys-lab estimate memory llama-2-7b --gpu A100
    """
    from mlsys_lab.capacity.app import TooMuch
    from mlsys_lab.capacity.app import app as commands

    try:
        code = commands(
            args=context.args or ["--help"], prog_name="mlsys-lab estimate", standalone_mode=False
        )
    except ValueError as error:
        raise _usage()(" ".join(str(error).split())) from None
    except TooMuch as error:
        _stop(str(error), 1)
    raise typer.Exit(code if isinstance(code, int) else 0)


def main() -> None:
    """Entry point: mounts the autograder's commands and turns every foreseen error into one line."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show a sign gets a question mark
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    own = _own_autograder()
    if own:
        _stop(own, 2)
    from autograder.assignment import UsageError
    from autograder.cli import Course, Interrupted
    from autograder.cli import app as autograder_app

    app.registered_commands = [*autograder_app.registered_commands, *app.registered_commands]
    app.registered_groups = [*autograder_app.registered_groups]
    wrong_usage: Any = typer.BadParameter.__mro__[1]  # click's UsageError, wherever typer keeps it
    try:
        code = app(obj=Course(_root(), PACKAGE), standalone_mode=False)
    except UsageError as error:
        _stop(str(error), 2)
    except Interrupted as error:
        _stop(str(error), 130)
    except (KeyboardInterrupt, typer.Abort):
        _stop("interrupted", 130)
    except wrong_usage as error:
        context: Any = getattr(error, "ctx", None)
        path = context.command_path if context is not None else ""
        own = path if " " in path else ""  # a command, not the program itself
        more = f"{own} --help lists its options" if own else "mlsys-lab --help lists the commands"
        _stop(f"{' '.join(error.format_message().split())} ({more})", 2)
    sys.exit(code if isinstance(code, int) else 0)


def _root() -> Path:
    """The course to work on: the repository this package lies in, else the current folder."""
    return PACKAGE.parent if (PACKAGE.parent / "assignments").is_dir() else Path.cwd()


def _own_autograder() -> str:
    """One line where `autograder` is another project's package (the index has one), else nothing."""
    import autograder

    if getattr(autograder, "PROJECT", None) == "mlsys-lab-course":
        return ""
    where = getattr(autograder, "__file__", None) or "an unknown place"
    fix = "`pip uninstall autograder`, or start with `python3 lab.py`"
    return f"another package named autograder is imported from {where}: {fix}"


def _usage() -> type[Exception]:
    from autograder.assignment import UsageError

    return UsageError


def _stop(message: str, code: int) -> None:
    print(f"mlsys-lab: {message}", file=sys.stderr)
    sys.exit(code)
