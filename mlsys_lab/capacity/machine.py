"""What one's own machine does with single operations, measured once and kept.

A roofline has two numbers, a peak and a bandwidth, and says what cannot be exceeded. What an operation
reaches is far below for most: 24 percent of the roof for a softmax, 37 for a skinny product. So each class of
operation has a curve of its own: CPU seconds per FLOP, or per byte, over its size, in one thread.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: Of a class of operations: the sizes, the FLOPs or bytes, and the CPU seconds that were measured.
Samples = list[tuple[tuple[int, ...], int, float]]


@dataclass
class Machine:
    """A machine as its own measurements show it.

    Attributes:
        name: of the processor.
        date: when it was measured.
        peak_flops: by dtype, FLOP per CPU second in one thread.
        bandwidth: by level ("L2", "L3", "memory"), bytes per CPU second in one thread.
        stream: what a byte takes (CPU seconds) in arrays of so many bytes together, from small to large: no
            step at a cache's nominal size, since others use it too.
        samples: by class of operation.
        cold: by class of operation, what the first call costs more (CPU seconds) after so many seconds of
            other work: its code and tables have left the caches. From short to long.
        overhead_s: what autograd, modules and the optimiser's Python add to each operation of a step.
    """

    name: str
    date: str
    peak_flops: dict[str, float] = field(default_factory=dict)
    bandwidth: dict[str, float] = field(default_factory=dict)
    stream: list[tuple[int, float]] = field(default_factory=list)
    samples: dict[str, Samples] = field(default_factory=dict)
    cold: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    overhead_s: float = 0.0

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Machine:
        """Read what `save` wrote."""
        made = cls(**json.loads(path.read_text(encoding="utf-8")))
        made.stream = [(size, cost) for size, cost in made.stream]
        made.samples = {k: [(tuple(x), u, t) for x, u, t in v] for k, v in made.samples.items()}
        made.cold = {k: [(gap, extra) for gap, extra in v] for k, v in made.cold.items()}
        return made


def cpu_seconds(call: Callable[[], Any], *, least_s: float = 0.004, rounds: int = 5) -> float:
    """CPU seconds of one call in this thread: the median of rounds that are long enough for the clock."""
    call()
    times, number = [], 1
    while True:
        before = time.thread_time()
        for _ in range(number):
            call()
        taken = time.thread_time() - before
        if taken < least_s and number < 1 << 20:
            number = max(number * 2, int(number * 1.2 * least_s / max(taken, 1e-7)))
            continue
        times.append(taken / number)
        if len(times) == rounds:
            return sorted(times)[rounds // 2]


def processor() -> str:
    """The processor's name, as its maker gives it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cache_bytes() -> dict[str, int]:
    """Sizes of the data caches of the first core by level; common ones where the system does not say."""
    found: dict[str, int] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            if (index / "type").read_text().strip() == "Instruction":
                continue
            size = (index / "size").read_text().strip()
            unit = {"K": 1 << 10, "M": 1 << 20}[size[-1]]
            found[f"L{(index / 'level').read_text().strip()}"] = int(size[:-1]) * unit
        except (OSError, ValueError, KeyError):
            continue
    return found or {"L1": 32 << 10, "L2": 1 << 20, "L3": 16 << 20}


def kept_at() -> Path:
    """Where the measurements of this machine are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "mlsys-lab" / "machine.json"
