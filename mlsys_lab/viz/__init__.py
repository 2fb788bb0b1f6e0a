"""Figures: the one plot style, and pictures over several results."""

from mlsys_lab._core.style import PALETTE, style
from mlsys_lab.viz.graph import graph
from mlsys_lab.viz.plots import bound, prediction, show, text_of
from mlsys_lab.viz.timeline import memory_timeline

__all__ = ["PALETTE", "bound", "graph", "memory_timeline", "prediction", "show", "style", "text_of"]
