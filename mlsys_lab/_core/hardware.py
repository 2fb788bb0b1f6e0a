"""Devices: what they can do at most, each figure with its source and date.

Peaks are dense ones; with 2:4 sparsity they stand apart, because datasheets print those in larger type. A figure
that no datasheet prints says so in its source.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field


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
    **{"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32"},
    **{
        "fp8": "float8",
        "e4m3": "float8",
        "e5m2": "float8",
        "fp4": "float4",
        "fp64": "float64",
        "double": "float64",
    },
}

_MERCATUS = "mercatus-ai.com/blog/cloud-gpu-pricing, on demand, May 2026"
_T, _G = 1e12, 1e9


def _peaks(half: float, *, bfloat16: bool = True, **others: float) -> dict[str, float]:
    table = {"float16": half * _T, **({"bfloat16": half * _T} if bfloat16 else {})}
    return table | {name: value * _T for name, value in others.items()}


def _gpu(name: str, fp32: float, memory: float, per_s: float, source: str, peaks: dict[str, float], watts: float,
         link: float, link_name: str, rent: tuple[float, float] = (0.0, 0.0), sparse: bool = True) -> Device:  # fmt: skip
    doubled = {k: 2 * v for k, v in peaks.items() if k not in ("float64",)} if sparse else {}
    return Device(
        name, fp32 * _T, per_s * _G, source, "gpu", memory * _G, peaks, doubled, watts, link * _G, link_name, rent,
        _MERCATUS if rent[1] else "",
    )  # fmt: skip


_HOPPER = _peaks(989.4, tf32=494.7, float8=1978.9, int8=1978.9, float64=67)
_AMPERE = _peaks(312, tf32=156, int8=624, float64=19.5)

_ROWS = (
    _gpu("V100", 15.7, 32, 900, "NVIDIA V100 datasheet, SXM2 32GB, 2020", _peaks(125, bfloat16=False), 300, 300,
         "NVLink 2", sparse=False),
    _gpu("T4", 8.1, 16, 320, "NVIDIA T4 datasheet, 2019; clocks under load reach less", _peaks(65, bfloat16=False, int8=130),
         70, 32, "PCIe 3 x16", sparse=False),
    _gpu("A100-40GB", 19.5, 40, 1555, "NVIDIA A100 datasheet, 40GB SXM, 2020", _AMPERE, 400, 600, "NVLink 3"),
    _gpu("A100", 19.5, 80, 2039, "NVIDIA A100 datasheet, 80GB SXM, 2021", _AMPERE, 400, 600, "NVLink 3", (0.80, 3.00)),
    _gpu("A100-PCIe", 19.5, 80, 1935, "NVIDIA A100 datasheet, 80GB PCIe, 2021", _AMPERE, 300, 64, "PCIe 4 x16"),
    _gpu("A6000", 38.7, 48, 768, "NVIDIA RTX A6000 datasheet, 2021; dense peaks are half of the sparse ones printed",
         _peaks(154.8, tf32=77.4, int8=309.7), 300, 112.5, "NVLink 3 bridge"),
    _gpu("L4", 30.3, 24, 300, "NVIDIA L4 datasheet, 2023; dense peaks are half of the sparse ones printed",
         _peaks(121, tf32=60, float8=242.5, int8=242.5), 72, 64, "PCIe 4 x16"),
    _gpu("L40S", 91.6, 48, 864, "NVIDIA L40S datasheet, 2023", _peaks(362.05, tf32=183, float8=733, int8=733), 350, 64,
         "PCIe 4 x16"),
    _gpu("H100", 67, 80, 3350, "NVIDIA H100 datasheet, SXM, 2023; dense peaks are half of the sparse ones printed", _HOPPER,
         700, 900, "NVLink 4", (1.99, 5.00)),
    _gpu("H100-PCIe", 51, 80, 2000, "NVIDIA H100 datasheet, PCIe, 2023; dense peaks are half of the sparse ones printed",
         _peaks(756, tf32=378, float8=1513, int8=1513, float64=51), 350, 600, "NVLink 4 bridge"),
    _gpu("H800", 67, 80, 3350, "H100 SXM with NVLink cut to 400 GB/s and less float64: arXiv 2412.19437, section 3.1, 2024; "
         "its watts are the H100's", _HOPPER | {"float64": 1.0 * _T}, 700, 400, "NVLink 4"),
    _gpu("H200", 67, 141, 4800, "NVIDIA H200 datasheet, SXM, 2024; dense peaks are half of the sparse ones printed", _HOPPER,
         700, 900, "NVLink 4", (2.50, 7.00)),
    _gpu("B200", 75, 180, 8000, "NVIDIA HGX B200 datasheet, per GPU, 2025; it prints 180 GB, earlier pages 192 and 7.7 TB/s",
         _peaks(2250, tf32=1125, float8=4500, float4=9000, int8=4500, float64=37), 1000, 1800, "NVLink 5"),
    _gpu("MI300X", 163.4, 192, 5300, "AMD Instinct MI300X datasheet, 2023",
         _peaks(1307.4, tf32=653.7, float8=2614.9, int8=2614.9, float64=163.4), 750, 896, "Infinity Fabric, 7 links"),
    Device("TPU v4", 0.0, 1228 * _G, "Google Cloud, TPU v4 page, 2023; watts: arXiv 2304.01433, table 4 (most seen); no float32 "
           "peak is published", "tpu", 32 * _G, {"bfloat16": 275 * _T, "int8": 275 * _T}, {}, 192, 300 * _G, "ICI, 6 links"),
    Device("TPU v5e", 0.0, 819 * _G, "Google Cloud, TPU v5e page, 2024; neither float32 peak nor watts are published", "tpu",
           16 * _G, {"bfloat16": 197 * _T, "int8": 393 * _T}, {}, 0.0, 400 * _G, "ICI, 4 links"),
    Device("TPU v5p", 0.0, 2765 * _G, "Google Cloud, TPU v5p page, 2024; neither float32 peak nor watts are published", "tpu",
           95 * _G, {"bfloat16": 459 * _T, "int8": 918 * _T}, {}, 0.0, 1200 * _G, "ICI, 6 links; the page prints 4800 Gbit/s one "
           "way"),
    Device("Alveo U280", 0.0, 460 * _G, "AMD (Xilinx) DS963, Alveo U280, 2021: HBM2, int8 peak of the whole fabric; what a "
           "design reaches depends on the design", "fpga", 8 * _G, {"int8": 24.5 * _T}, {}, 225, 32 * _G, "PCIe 3 x16"),
    Device("Inferentia2", 47.5 * _T, 820 * _G, "AWS, Inferentia2 chip page of the Neuron documentation, 2023; watts are not "
           "published", "asic", 32 * _G, {"bfloat16": 190 * _T, "float16": 190 * _T, "int8": 380 * _T}, {}, 0.0, 384 * _G,
           "NeuronLink 2"),
    Device("Xeon 8480+", 7.17 * _T, 307.2 * _G, "Intel ARK, Xeon Platinum 8480+, 2023: 56 cores, 8 channels of DDR5-4800; peaks "
           "are computed: 2 FMA units of 16 lanes, AMX 1024 multiply-adds per core and clock, at the base clock of 2.0 GHz; "
           "memory as fitted", "cpu", 512 * _G, {"bfloat16": 229 * _T, "int8": 459 * _T}, {}, 350, 160 * _G, "PCIe 5, 80 lanes"),
    Device("EPYC 9654", 7.37 * _T, 460.8 * _G, "AMD, EPYC 9654 page, 2022: 96 cores, 12 channels of DDR5-4800; the peak is "
           "computed: 2 FMA units of 8 lanes at the base clock of 2.4 GHz; memory as fitted", "cpu", 768 * _G,
           {"bfloat16": 14.7 * _T}, {}, 360, 252 * _G, "PCIe 5, 128 lanes"),
)  # fmt: skip

DEVICES: dict[str, Device] = {d.name: d for d in _ROWS}

#: What else these devices are called; what a seller adds (SXM, HBM, memory that there is one size of) is left out.
_ALIASES = {
    **{
        "a10080gb": "A100",
        "v10032gb": "V100",
        "h10080gb": "H100",
        "h200141gb": "H200",
        "a10040gb": "A100-40GB",
    },
    **{"a100pcie": "A100-PCIe", "a10080gbpcie": "A100-PCIe", "h100pcie": "H100-PCIe", "rtxa6000": "A6000"},
    **{
        "tpuv4": "TPU v4",
        "tpuv5e": "TPU v5e",
        "tpuv5p": "TPU v5p",
        "u280": "Alveo U280",
        "xeon": "Xeon 8480+",
    },
    **{
        "epyc": "EPYC 9654",
        "h100nvl": "H100-PCIe",
        "v5e": "TPU v5e",
        "v5p": "TPU v5p",
        "inf2": "Inferentia2",
    },
}


def _plain(name: str) -> str:
    """A name without its maker, case and punctuation, and without the SXM form that the figures are for."""
    text = re.sub(r"\(.*?\)|nvidia|google|amd|intel|aws|tesla|instinct|platinum", "", name.lower())
    return re.sub(r"[^a-z0-9+]", "", re.sub(r"sxm\d?|dgx|hgx", "", text))


def device(name: str) -> Device:
    """A device by name, also as sellers write it: "A100-80GB-SXM" is the A100, "A100-40GB" another one.

    Raises:
        ValueError: unknown; the message names the nearest.

    >>> device("h100-sxm").memory_bytes_per_s
    3350000000000.0
    """
    known = {_plain(d): d for d in DEVICES} | _ALIASES
    plain = _plain(name)
    if plain in known:
        return DEVICES[known[plain]]
    near = difflib.get_close_matches(plain, known, n=3, cutoff=0.4)
    offered = ", ".join(dict.fromkeys(known[n] for n in near)) or ", ".join(DEVICES)
    raise ValueError(f"unknown device {name!r}; the nearest are {offered}")
