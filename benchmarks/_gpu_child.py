"""One launch on the GPU, for a tool to watch: `python _gpu_child.py rung NAME SIZE...` or `... race NAME`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from _gpu_tools import RACES

from mlsys_lab.kernels import CudaKernel, references
from mlsys_lab.kernels.library import LADDER


def main(kind: str, name: str, *sizes: str, device: str = "gpu") -> None:
    if kind == "rung":
        LADDER[name].run(*references.inputs(LADDER[name].family, tuple(map(int, sizes))), device=device)
    else:
        CudaKernel(RACES[name])[1, 256](np.ones(256, np.float32), np.zeros(256, np.float32), device=device)


if __name__ == "__main__":
    main(*sys.argv[1:])
