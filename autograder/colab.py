"""Stand-ins for what a notebook of Colab does first: it mounts a drive, and it installs packages.

Outside Colab the first fails, and with it a clean start that has nothing wrong with it; the second would ask
a network that is not there, or install for whoever grades. Here each says so in one line, and the notebook
goes on.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from typing import Any

#: `!pip ...`, and what IPython makes of `%pip ...`: a shell's line that begins with it.
_PIP = re.compile(r"\s*(\S*python[\d.]*[\"']?\s+-m\s+|\S*/)?pip[\d.]*\s")


def stand_in() -> None:
    """Make `from google.colab import drive` work where Colab is not; a real `google` package stays."""
    if "google" not in sys.modules and importlib.util.find_spec("google") is None:
        google = types.ModuleType("google")
        google.__path__ = []
        sys.modules["google"] = google
    drive = types.ModuleType("google.colab.drive")
    drive.mount = _mount  # type: ignore[attr-defined]
    colab = types.ModuleType("google.colab")
    colab.drive = drive  # type: ignore[attr-defined]
    colab.__path__ = []
    sys.modules |= {"google.colab": colab, "google.colab.drive": drive}


def _mount(mountpoint: str, **options: object) -> None:
    print(f"this is not Colab: nothing is mounted at {mountpoint}")


def install_nothing(shell: Any) -> None:
    """Answer the shell lines of an IPython shell that call pip; all others run."""
    run = shell.system

    def system(command: str) -> None:
        if _PIP.match(command):
            print(f"not run here, the packages are the course's: {command.strip()}")
        else:
            run(command)

    shell.system = system
