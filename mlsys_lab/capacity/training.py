"""Memory of a training step on the GPU that needs most: by part, by phase, and as the maximum over phases.

A step goes through phases, and not everything lives at once: gradients are not there when the first forward
pass
ends, activations are gone when the optimiser runs. The sum of all parts is what estimators print; the peak is
the largest phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlsys_lab.capacity.models import ModelSpec
from mlsys_lab.capacity.parallel import Parallel, Workload, check
from mlsys_lab.capacity.phases import phases


@dataclass(frozen=True)
class TrainingMemory:
    """The answer: bytes by phase and part.

    Attributes:
        phases: phase -> part -> bytes, in the order of a step.
        stage: the pipeline stage that needs most; the phases are its own.
    """

    phases: Mapping[str, Mapping[str, float]]
    stage: int = 0

    @property
    def peak_phase(self) -> str:
        """The phase with the largest sum."""
        return max(self.phases, key=lambda phase: sum(self.phases[phase].values()))

    @property
    def parts(self) -> dict[str, float]:
        """Bytes by part in the peak phase; their sum is `peak_bytes`."""
        return dict(self.phases[self.peak_phase])

    @property
    def peak_bytes(self) -> float:
        return sum(self.parts.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "peak_bytes": self.peak_bytes,
            "parts": self.parts,
            "phase": self.peak_phase,
            "stage": self.stage,
        }


def training_memory(m: ModelSpec, w: Workload, p: Parallel | None = None) -> TrainingMemory:
    """Peak memory of one GPU in a training step.

    Args:
        m: the model.
        w: what a step trains on; its `context` and `micro_batch` count here.
        p: the layout; one GPU by default.

    Returns:
        The phases of the pipeline stage that needs most. The framework's own memory (CUDA context, about 0.5
        GB;
        communication buffers; fragmentation) is not in it.

    Raises:
        ValueError: the layout does not divide; see `parallel.check`.
    """
    p = p or Parallel()
    check(m, w, p)
    return max(
        (TrainingMemory(phases(m, w, p, stage), stage) for stage in range(p.pp)),
        key=lambda found: found.peak_bytes,
    )
