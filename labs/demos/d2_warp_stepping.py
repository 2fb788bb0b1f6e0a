"""A warp's loads and the warps that take turns: write another index or another kernel and look again.

Run it as `python labs/demos/d2_warp_stepping.py [FILE]`; `mlsys-lab demo warp` opens the ready one.
"""

from __future__ import annotations

import sys

from mlsys_lab import viz

stepper = viz.warp_steps(
    loads=("i", "i / 4", "4 * i", "31 - i"),  # x[...]: at most x[1023], in C, for lane i
    words=("t", "t / 2", "4 * t", "8 * t % 33"),  # s[...]: at most s[1055], for lane t
    load_cycles=40,  # of the model at the end
)

path = sys.argv[1] if len(sys.argv) > 1 else "warp_stepping.html"
stepper.save(path)
print(stepper.transcript[-1])
print(f"written: {path}")
