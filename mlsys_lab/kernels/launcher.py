"""Kernels of the library by name, launched one after another; and what can be counted of their launches.

A host function (`hosts.py`) takes a `Launcher` and need not know whether that simulates or has a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from mlsys_lab.kernels import hosts
from mlsys_lab.kernels.frontend import FOLDER, PRECOMPILED_FOR
from mlsys_lab.kernels.launch import CudaKernel
from mlsys_lab.kernels.report import Report

Shape = int | tuple[int, ...]

#: Threads of a block for each kernel, by file.
KERNELS: dict[str, dict[str, Shape]] = {
    "elementwise": {"vector_add": 256, "vector_add_float4": 256, "saxpy": 256, "copy_strided": 256},
    "transpose": dict.fromkeys(("transpose_naive", "transpose_tiled", "transpose_padded"), (32, 8)),
    "reduce": {
        "sum_one_thread": 1,
        **dict.fromkeys(("sum_atomic", "sum_tree_divergent", "sum_tree", "sum_shuffle", "sum_two_pass"), 256),
    },
    "histogram": {"histogram_global": 256, "histogram_shared": 256},
    "scan": dict.fromkeys(("scan_hillis_steele", "scan_blelloch", "scan_tiles", "scan_add"), 256),
    "softmax": {"softmax_three_pass": 256, "softmax_online": 256},
    "layernorm": {"layernorm_three_pass": 256, "layernorm_welford": 256},
    "matmul": {
        **dict.fromkeys(("matmul_naive", "matmul_coalesced", "matmul_shared"), (32, 32)),
        "matmul_1d_tile": 512,
        **dict.fromkeys(("matmul_2d_tile", "matmul_vectorised", "matmul_warp_tile"), 256),
    },
    "matmul_bf16": {"matmul_wmma": 128},
    "matmul_wgmma": {"matmul_wgmma": 288},
    "attention": {
        "attention_scores": 128,
        "attention_values": 64,
        **dict.fromkeys(
            ("attention_flash", "attention_delta", "attention_backward_q", "attention_backward_kv"), 128
        ),
    },
    "decode": {"decode_paged": 128, "decode_grouped": 128},
    "adam": {"adam_average": 256, "adam_step": 256, "adam_fused": 256},
}

#: Files whose kernels use what one architecture alone has.
ARCHITECTURES = {"matmul_wgmma": "sm_90a"}
#: Dynamic shared memory of kernels that always ask for the same, in bytes.
DYNAMIC_SHARED = {"matmul_wgmma": hosts.WGMMA_SHARED}


def file_of(kernel: str) -> str:
    """The file that holds a kernel.

    Raises:
        ValueError: there is no such kernel.
    """
    for name, kernels in KERNELS.items():
        if kernel in kernels:
            return name
    raise ValueError(
        f"there is no kernel {kernel!r}; there are: {', '.join(k for ks in KERNELS.values() for k in ks)}"
    )


@cache
def kernel_of(name: str) -> CudaKernel:
    """A kernel of the library, compiled."""
    file = file_of(name)
    return CudaKernel(FOLDER / f"{file}.cu", name, arch=ARCHITECTURES.get(file, PRECOMPILED_FOR))


@dataclass
class Launcher:
    """Launches kernels of the library by name and keeps their reports.

    Attributes:
        device: where, as for `CudaKernel`.
        reports: of the launches, in order; a GPU gives none.
        warps: that were launched, in all.
    """

    device: str = "simulator"
    reports: list[Report] = field(default_factory=list)
    warps: int = 0

    def __call__(self, kernel: str, grid: Shape, *arguments: Any, shared: int = 0) -> None:
        block = KERNELS[file_of(kernel)][kernel]
        launch = kernel_of(kernel)[grid, block, shared]
        report = launch(*arguments, device=self.device, seconds=math.inf)  # these are known to end
        if report is not None:
            self.reports.append(report)
        threads = launch.block[0] * launch.block[1] * launch.block[2]
        self.warps += -(-threads // 32) * launch.grid[0] * launch.grid[1] * launch.grid[2]


def summed(part: str, what: str) -> Callable[[Launcher], float]:
    return lambda done: float(sum(getattr(getattr(r, part), what) for r in done.reports))


def instructions(done: Launcher) -> float:
    return float(sum(r.instructions for r in done.reports))


def bytes_per_flop(done: Launcher) -> float:
    moved = summed("global_loads", "bytes")(done) + summed("global_stores", "bytes")(done)
    return moved / sum(r.flops for r in done.reports)


#: What a rung may lower, as a function of its launches. Atomic additions are stores.
COUNTERS: dict[str, Callable[[Launcher], float]] = {
    "global load requests": summed("global_loads", "requests"),
    "global load sectors": summed("global_loads", "sectors"),
    "global store sectors": summed("global_stores", "sectors"),
    "global store bytes": summed("global_stores", "bytes"),
    "sectors per load": lambda d: (
        summed("global_loads", "sectors")(d) / summed("global_loads", "requests")(d)
    ),
    "shared wavefronts": summed("shared", "wavefronts"),
    "shared conflicts": summed("shared", "conflicts"),
    "instructions": instructions,
    "instructions per warp": lambda d: instructions(d) / d.warps,
    "flops": lambda d: float(sum(r.flops for r in d.reports)),
    "bytes per flop": bytes_per_flop,
}
