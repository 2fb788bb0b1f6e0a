"""A launch on a chosen GPU: registers and occupancy from machine code, time from a roofline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlsys_lab._core.hardware import DEVICES, Device
from mlsys_lab.kernels.report import Report
from mlsys_lab.kernels.residency import GPUS, Resources, blocks_resident, occupancy, resources


@dataclass(frozen=True)
class Estimate:
    """A launch on a GPU; time is a model, the rest is from the offline machine code.

    Attributes:
        device: the GPU.
        has: registers, shared memory and spills of the kernel.
        shared_bytes: of a block, dynamic shared memory included.
        blocks: that a multiprocessor holds at once; `limit` says what holds it there.
        occupancy: resident warps, of those that fit.
        compute_s, memory_s: float32 operations at the peak, sectors at the bandwidth of memory.
    """

    device: Device
    has: Resources
    shared_bytes: int
    blocks: int
    limit: str
    occupancy: float
    compute_s: float
    memory_s: float

    @property
    def time_s(self) -> float:
        """The roofline: the longer of the two, as if they overlapped and nothing else cost."""
        return max(self.compute_s, self.memory_s)

    def __str__(self) -> str:
        bound = "memory" if self.memory_s >= self.compute_s else "arithmetic"
        return (
            f"on {self.device.name}: {self.has.registers} registers, {self.shared_bytes:,} bytes shared, "
            f"{self.has.spill_bytes} bytes spilled; {self.blocks} blocks per multiprocessor "
            f"(held by {self.limit}), occupancy {self.occupancy:.0%}\n"
            f"model: at least {1e6 * self.time_s:.3g} us, bound by {bound} (roofline without caches: "
            f"{1e6 * self.memory_s:.3g} us for sectors, {1e6 * self.compute_s:.3g} us for float32; "
            f"{self.device.source})"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "gpu": self.device.name,
            **vars(self.has),
            "shared_bytes": self.shared_bytes,
            "blocks_per_multiprocessor": self.blocks,
            "limit": self.limit,
            "occupancy": self.occupancy,
            "model_time_s": self.time_s,
            "source": self.device.source,
        }


def architecture(gpu: str) -> str:
    """What a GPU's kernels are compiled for.

    Raises:
        ValueError: an unknown GPU; lists the names.
    """
    if gpu not in GPUS:
        raise ValueError(f"there is no GPU {gpu!r} here; there are: {', '.join(GPUS)}")
    return GPUS[gpu].arch


def estimate(source: str, name: str, threads: int, dynamic_shared: int, report: Report, gpu: str) -> Estimate:
    """Estimate a launch that ran on the simulator.

    Args:
        source: CUDA C++.
        name: the kernel.
        threads: of a block.
        dynamic_shared: bytes of `extern __shared__` memory.
        report: of the launch.
        gpu: one of `residency.GPUS`.

    Raises:
        ValueError: an unknown GPU; lists the names. Or one that holds no block of the launch.
        CompileError, NoFrontEnd: as `to_cubin`.
    """
    has, device = resources(source, architecture(gpu))[name], DEVICES[gpu]
    shared = has.shared_bytes + dynamic_shared
    limits = blocks_resident(GPUS[gpu], threads, has.registers, shared)
    least = min(limits.values())
    if not least:
        short = " and ".join(what for what, n in limits.items() if not n)
        raise ValueError(
            f"no block of {threads} threads of {name} fits on a multiprocessor of {gpu}: too little for it "
            f"is {short} ({has.registers} registers a thread, {shared:,} bytes shared); take fewer threads"
        )
    moved = 32 * (report.global_loads.sectors + report.global_stores.sectors)
    return Estimate(
        device,
        has,
        shared,
        least,
        " and ".join(what for what, n in limits.items() if n == least),
        occupancy(GPUS[gpu], threads, has.registers, shared),
        report.flops / device.float32_flops,
        moved / device.memory_bytes_per_s,
    )
