"""Operations under a roof: take another GPU, model, batch or context and look again.

Run it as `python labs/demos/d3_roofline_explorer.py [FILE]`; `mlsys-lab demo roofline` opens the ready one.
"""

from __future__ import annotations

import sys

from mlsys_lab import viz

stepper = viz.roof_steps(
    "A100",
    others=["V100", "H200"],  # grey
    model="llama-3-8b",  # its keys are shared by four heads already
    batches=[1, 16, 256],
    context=8192,
)

path = sys.argv[1] if len(sys.argv) > 1 else "roofline_explorer.html"
stepper.save(path)
print(stepper.transcript[-1])
print(f"written: {path}")
