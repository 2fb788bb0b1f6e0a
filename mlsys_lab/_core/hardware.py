"""Devices: what they can do at most, each figure with its source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        name: as people call it.
        float32_flops: of the ordinary cores, per second, at the boost clock.
        memory_bytes_per_s: of its own memory.
        source: where the figures stand.
    """

    name: str
    float32_flops: float
    memory_bytes_per_s: float
    source: str


DEVICES = {
    d.name: d
    for d in (
        Device("A100", 19.5e12, 2039e9, "NVIDIA A100 datasheet, 80GB SXM, 2021"),
        Device("A6000", 38.7e12, 768e9, "NVIDIA RTX A6000 datasheet, 2021"),
        Device("L4", 30.3e12, 300e9, "NVIDIA L4 datasheet, 2023"),
        Device("H100", 67e12, 3350e9, "NVIDIA H100 datasheet, SXM, 2023"),
        Device("H200", 67e12, 4800e9, "NVIDIA H200 datasheet, SXM, 2024"),
        Device("B200", 75e12, 8000e9, "NVIDIA HGX B200 datasheet, per GPU, 2025"),
    )
}
