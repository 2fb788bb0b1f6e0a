"""Devices: what they can do at most, each figure with its source and date (devices.toml).

Peaks are dense ones; with 2:4 sparsity they stand apart, because datasheets print those in larger type. A
figure that no datasheet prints says so in its source.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Device:
    """An accelerator or a processor.

    Attributes:
        name: as people call it.
        float32_flops: of the ordinary cores, per second, at the boost clock; 0 where none is published.
        memory_bytes_per_s: of its own memory.
        source: where the figures stand, with the year.
        kind: "gpu", "tpu", "fpga", "asic" or "cpu".
        memory_bytes: in SI bytes, as the vendor writes it ("80GB").
        peaks: dense operations per second of the matrix units by dtype.
        sparse_peaks: the same with 2:4 sparsity, where the device has it.
        watts: the most that it draws as sold; 0 where none is published.
        link_bytes_per_s: to its neighbours, both directions together (NVLink, ICI, Infinity Fabric, PCIe).
        link: what that is.
        usd_per_hour: the lowest and the highest rent on demand, (0, 0) where none is written down here.
        price_source: of the rent, with the date.
    """

    name: str
    float32_flops: float
    memory_bytes_per_s: float
    source: str
    kind: str = "gpu"
    memory_bytes: float = 0.0
    peaks: Mapping[str, float] = field(default_factory=dict)
    sparse_peaks: Mapping[str, float] = field(default_factory=dict)
    watts: float = 0.0
    link_bytes_per_s: float = 0.0
    link: str = ""
    usd_per_hour: tuple[float, float] = (0.0, 0.0)
    price_source: str = ""

    def peak(self, dtype: str = "bfloat16", *, sparse: bool = False) -> float:
        """Operations per second in a dtype.

        Args:
            dtype: "bfloat16", "float16", "tf32", "float8", "float4", "int8", "float32", or short ("bf16").
            sparse: with 2:4 sparsity.

        Raises:
            ValueError: the device has no such peak; the message names those that it has.
        """
        table = self.sparse_peaks if sparse else self.peaks
        name = DTYPES.get(dtype.lower(), dtype)
        if name in table:
            return table[name]
        if name == "float32" and self.float32_flops and not sparse:
            return self.float32_flops
        has = ", ".join(table) or "none"
        raise ValueError(f"{self.name} has no {'sparse ' if sparse else ''}peak for {dtype}; it has {has}")

    def half_peak(self) -> float:
        """Dense peak of 16-bit training: bfloat16, and float16 on devices from before it."""
        return self.peak("bfloat16" if "bfloat16" in self.peaks else "float16")

    def ridge(self, dtype: str = "bfloat16") -> float:
        """FLOP per byte at which arithmetic and memory take the same time (Williams et al. 2009)."""
        return self.peak(dtype) / self.memory_bytes_per_s

    @property
    def usd_per_hour_mid(self) -> float:
        """Geometric mean of the rents, 0 where there are none."""
        return math.sqrt(self.usd_per_hour[0] * self.usd_per_hour[1])


DTYPES = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "half": "float16",
    "fp32": "float32",
    "float": "float32",
    "fp8": "float8",
    "e4m3": "float8",
    "e5m2": "float8",
    "fp4": "float4",
    "fp64": "float64",
    "double": "float64",
}


def _device(name: str, row: dict[str, Any]) -> Device:
    return Device(name=name, **{**row, "usd_per_hour": tuple(row.get("usd_per_hour", (0.0, 0.0)))})


_ROWS = tomllib.loads((Path(__file__).parent / "devices.toml").read_text(encoding="utf-8"))
DEVICES: dict[str, Device] = {name: _device(name, row) for name, row in _ROWS.items()}

#: What else these devices are called; what a seller adds (SXM, HBM, memory that there is one size of) is left
#: out.
_ALIASES = {
    "a10080gb": "A100",
    "v10032gb": "V100",
    "h10080gb": "H100",
    "h200141gb": "H200",
    "a10040gb": "A100-40GB",
    "a100pcie": "A100-PCIe",
    "a10080gbpcie": "A100-PCIe",
    "h100pcie": "H100-PCIe",
    "rtxa6000": "A6000",
    "tpuv4": "TPU v4",
    "tpuv5e": "TPU v5e",
    "tpuv5p": "TPU v5p",
    "u280": "Alveo U280",
    "xeon": "Xeon 8480+",
    "epyc": "EPYC 9654",
    "h100nvl": "H100-PCIe",
    "v5e": "TPU v5e",
    "v5p": "TPU v5p",
    "inf2": "Inferentia2",
}


def _plain(name: str) -> str:
    """A name without its maker, case and punctuation, and without the SXM form that the figures are for."""
    text = re.sub(r"\(.*?\)|nvidia|google|amd|intel|aws|tesla|instinct|platinum", "", name.lower())
    return re.sub(r"[^a-z0-9+]", "", re.sub(r"sxm\d?|dgx|hgx|hbm\d?e?", "", text))


@cache
def _known() -> dict[str, str]:
    return {_plain(d): d for d in DEVICES} | _ALIASES


def device(name: str) -> Device:
    """A device by name, also as sellers write it: "A100-80GB-SXM" is the A100, "A100-40GB" another one.

    Raises:
        ValueError: unknown; the message names the nearest.

    >>> device("h100-sxm").memory_bytes_per_s
    3350000000000.0
    """
    known, plain = _known(), _plain(name)
    if plain in known:
        return DEVICES[known[plain]]
    near = difflib.get_close_matches(plain, known, n=3, cutoff=0.4)
    offered = ", ".join(dict.fromkeys(known[n] for n in near)) or ", ".join(DEVICES)
    raise ValueError(f"unknown device {name!r}; the nearest are {offered}")
