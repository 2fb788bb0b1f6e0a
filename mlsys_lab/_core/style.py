"""The one plot style and palette of the course.

Six colours from Okabe and Ito's colour-blind-safe set (Color Universal Design, 2008), each with one fixed
meaning, so that "orange" is memory in every lab. Figures keep a white ground, so black stays legible in a
dark JupyterLab too.
"""

from __future__ import annotations

from typing import Any

PALETTE: dict[str, str] = {
    "compute": "#0072B2",
    "memory": "#E69F00",
    "communication": "#009E73",
    "idle": "#999999",
    "yours": "#CC79A7",
    "reference": "#000000",
}


def style() -> dict[str, Any]:
    """Set the course's look on matplotlib and return the settings that were applied.

    Returns:
        The rcParams that were updated: name to value. Sizes are in points, the figure size in inches.

    Example:
        >>> style()["figure.figsize"]
        (7.0, 3.5)
    """
    import matplotlib as mpl
    from cycler import cycler

    settings: dict[str, Any] = {
        "figure.figsize": (7.0, 3.5),
        "figure.dpi": 110,
        "figure.facecolor": "white",
        "axes.facecolor": "white",
        "axes.prop_cycle": cycler(color=[c for name, c in PALETTE.items() if name != "reference"]),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.labelsize": 10,
        "font.size": 10,
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "lines.linewidth": 2.0,
        "figure.constrained_layout.use": True,
    }
    rc: Any = mpl.rcParams
    rc.update(settings)
    return settings
