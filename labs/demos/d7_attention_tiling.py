"""Attention by tiles, a step per tile: change the positions, the width or the tiles and look again.

Run it as `python labs/demos/d7_attention_tiling.py [FILE]`; `mlsys-lab demo attention` opens the ready one.
"""

from __future__ import annotations

import sys

import numpy as np

from mlsys_lab import viz

n, d = 9, 3  # positions, width of the head
rows, columns = 3, 4  # queries and keys per tile: taller tiles let the keys pass less often

rng = np.random.default_rng(0)
q, k, v = (rng.normal(size=(n, d)).astype(np.float32) for _ in range(3))
stepper = viz.attention_steps(q, k, v, rows=rows, columns=columns)

path = sys.argv[1] if len(sys.argv) > 1 else "attention_tiling.html"
stepper.save(path)
print(stepper.transcript[-1])
print(f"written: {path}")
