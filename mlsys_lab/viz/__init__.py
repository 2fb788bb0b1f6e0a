"""Figures: the one plot style, and pictures over several results."""

from mlsys_lab._core.style import PALETTE, style

__all__ = ["PALETTE", "style"]
