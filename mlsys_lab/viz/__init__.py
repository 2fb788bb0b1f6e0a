"""Seeing it: the one plot style, pictures over several results, the profiler."""

from mlsys_lab._core.style import PALETTE, style
from mlsys_lab.viz.attention_steps import attention_steps
from mlsys_lab.viz.backward_steps import backward_steps
from mlsys_lab.viz.graph import graph
from mlsys_lab.viz.plots import bound, prediction, show, text_of
from mlsys_lab.viz.profile import profile
from mlsys_lab.viz.roof_steps import roof_steps
from mlsys_lab.viz.stepper import Shape, Step, Stepper
from mlsys_lab.viz.timeline import memory_timeline
from mlsys_lab.viz.warp_steps import warp_steps
