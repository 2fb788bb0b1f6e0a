"""Stand-ins for what a notebook of Colab does first: it mounts a drive, and it installs packages.

Outside Colab the first fails where nothing guards it, and with it a clean start that has nothing wrong with
it; the second would ask a network that is not there, or install for whoever grades. A notebook that asks
whether it is in Colab, by `try` or `if`, gets the true answer: it is not.
"""

from __future__ import annotations

import ast
import re
import sys
import types
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from typing import Any

#: What a shell line begins with that installs: variables, a Python with -m, a path.
_PIP = re.compile(
    r"""\s*(\w+=\S*\s+)*"""
    r"""(("[^"]*"|'[^']*'|\S+)\s+(-\w+\s+)*-m\s+)?"""
    r"""["']?([^\s"']*/)?pip[\d.]*["']?(\s|$)"""
)


def imports_colab(cells: Iterable[str]) -> bool:
    """Does a notebook import `google.colab` outside of every `try`, `if` and function?"""
    from autograder.extract import parse_cell

    for cell in cells:
        try:
            tree = parse_cell(cell)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        if tree is not None and _imports(tree.body):
            return True
    return False


def _imports(body: Sequence[ast.stmt]) -> bool:
    named = [n.name for s in body if isinstance(s, ast.Import) for n in s.names]
    named += [f"{s.module}.{n.name}" for s in body if isinstance(s, ast.ImportFrom) for n in s.names]
    return any(f"{name}.".startswith("google.colab.") for name in named)


def stand_in() -> None:
    """Make `from google.colab import drive, files` work where Colab is not."""
    google = sys.modules.get("google") or _module("google")
    colab = _module("google.colab")
    drive, files = _module("google.colab.drive"), _module("google.colab.files")
    drive.mount = _mount  # type: ignore[attr-defined]
    drive.flush_and_unmount = lambda *args, **options: None  # type: ignore[attr-defined]
    files.upload = lambda *args: {}  # type: ignore[attr-defined]
    files.download = lambda filename: None  # type: ignore[attr-defined]
    colab.drive, colab.files = drive, files  # type: ignore[attr-defined]
    google.colab = colab  # type: ignore[attr-defined]


def _module(name: str) -> types.ModuleType:
    made = types.ModuleType(name)
    made.__spec__ = ModuleSpec(name, None, is_package=True)
    made.__path__ = []
    sys.modules[name] = made
    return made


def _mount(mountpoint: str, **options: object) -> None:
    print(f"this is not Colab: nothing is mounted at {mountpoint}")


def install_nothing(shell: Any) -> None:
    """Answer the shell lines of an IPython shell that begin with pip; all others run."""
    run, read = shell.system, shell.getoutput

    def installs(command: str) -> str:
        # As the shell will see it: {sys.executable} stands for a path.
        whole = str(shell.var_expand(command, depth=2))
        return f"not run here, the packages are the course's: {whole.strip()}" if _PIP.match(whole) else ""

    def system(command: str) -> None:
        said = installs(command)
        print(said) if said else run(command)

    def getoutput(command: str, *args: Any, **options: Any) -> Any:
        said = installs(command)
        return [said] if said else read(command, *args, **options)

    shell.system, shell.getoutput = system, getoutput
