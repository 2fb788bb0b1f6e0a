"""Capture, a small intermediate representation, passes, and C: `compile(fn)`."""

from __future__ import annotations

from mlsys_lab.compile.capture import CaptureError
from mlsys_lab.compile.compile import Compiled, compile
from mlsys_lab.compile.ir import Graph, bytes_moved, interpret

__all__ = ["CaptureError", "Compiled", "Graph", "bytes_moved", "compile", "interpret"]
