"""What one line of the source costs: instructions, operations and requests, as the report adds them up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class GlobalAccess:
    """Requests of warps to global memory, the 32-byte sectors that they touch and the fewest possible.

    Attributes:
        bytes: of all lanes; in `distinct` what several lanes of a request ask for counts once.
    """

    requests: int = 0
    sectors: int = 0
    bytes: int = 0
    distinct: int = 0
    fewest: int = 0

    @property
    def efficiency(self) -> float:
        """Bytes that were asked for, each once in a request, of those that the sectors hold."""
        return self.distinct / (32 * self.sectors) if self.sectors else 1.0


@dataclass
class SharedAccess:
    """Requests of warps to shared memory, the wavefronts that they take and the fewest possible."""

    requests: int = 0
    wavefronts: int = 0
    ideal: int = 0

    @property
    def conflicts(self) -> int:
        return self.wavefronts - self.ideal


@dataclass
class Line:
    """One line of the source: instructions of warps, also by class, lanes that ran them, and traffic."""

    line: int
    instructions: int = 0
    lanes: int = 0
    flops: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    loads: GlobalAccess = field(default_factory=GlobalAccess)
    stores: GlobalAccess = field(default_factory=GlobalAccess)
    shared: SharedAccess = field(default_factory=SharedAccess)

    @property
    def active(self) -> float:
        """Lanes that ran, of those of the warps that ran."""
        return self.lanes / (32 * self.instructions) if self.instructions else 1.0

    @property
    def bytes(self) -> int:
        """Of global memory that its lanes asked for."""
        return self.loads.bytes + self.stores.bytes

    @property
    def intensity(self) -> float | None:
        """Floating-point operations per byte that its sectors of global memory moved; None without any."""
        moved = 32 * (self.loads.sectors + self.stores.sectors)
        return self.flops / moved if moved else None

    def to_json(self) -> dict[str, Any]:
        return {
            "instructions": self.instructions, "classes": self.classes, "active": self.active,
            "flops": self.flops, "bytes": self.bytes, "intensity": self.intensity,
            "global_loads": vars(self.loads), "global_stores": vars(self.stores), "shared": vars(self.shared),
        }  # fmt: skip
