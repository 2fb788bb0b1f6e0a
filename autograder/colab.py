"""A stand-in for `google.colab`: a notebook saved in Colab mounts a drive before it does anything else.

Outside Colab that import fails, and with it a clean start that has nothing wrong with it. Here mounting says that
there is nothing to mount, and the notebook goes on.
"""

from __future__ import annotations

import importlib.util
import sys
import types


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
