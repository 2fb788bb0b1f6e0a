"""GPU kernels that run anywhere: CUDA C++ on a simulator of PTX, or on a GPU through CuPy.

`CudaKernel(source, name)[grid, block](*args)` compiles and runs a kernel; its `.report` tells what the
hardware would do, line by line.
"""

from mlsys_lab.kernels.examine import examined
from mlsys_lab.kernels.frontend import CompileError, NoFrontEnd
from mlsys_lab.kernels.engine import install
from mlsys_lab.kernels.launch import CudaKernel
from mlsys_lab.kernels.ptx.table import NotSimulated
from mlsys_lab.kernels.report import Report

__all__ = ["CompileError", "CudaKernel", "NoFrontEnd", "NotSimulated", "Report", "examined", "install"]
