"""Figures: the one plot style, and pictures over several results."""

from mlsys_lab._core.style import PALETTE, style
from mlsys_lab.viz.plots import bound, prediction, show, text_of

__all__ = ["PALETTE", "bound", "prediction", "show", "style", "text_of"]
