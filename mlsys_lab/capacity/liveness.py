"""What a training step holds in memory, moment by moment: blocks, when each came and went, and what for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlsys_lab._core.quantity import show
from mlsys_lab.capacity.interval import Interval

if TYPE_CHECKING:
    from mlsys_lab.capacity.savings import Savings


@dataclass
class Storage:
    """One block of memory.

    Attributes:
        bytes: its size.
        line: `file.py:12` that made it, of the caller's own code.
        operation: `aten::mm`; empty for what was there before.
        module: the path of the module that ran, `layers.0.mlp`; empty outside of modules.
        part: "parameters", "buffers", "inputs", "gradients", "optimiser", "activations" or "temporaries".
        born: index of the moment it came.
        died: index of the moment it went, or None.
    """

    bytes: int
    line: str
    operation: str
    module: str
    part: str
    born: int
    died: int | None = None


@dataclass(frozen=True)
class Trace:
    """What a training step holds in memory, moment by moment.

    Attributes:
        timeline: bytes that are alive after each allocation and each release.
        storages: every block of memory, with its line, its module and its part.
        hidden_bytes: at most so much more is kept where nobody can see it (oneDNN's recurrent layers keep
            their states so); 0 where all was seen.
        again: traces the same step once more, with modules to be recomputed; recomputed: those of this one;
            ran: the modules whose forward ran.
    """

    timeline: tuple[int, ...] = field(repr=False)
    storages: tuple[Storage, ...] = field(repr=False)
    hidden_bytes: int = 0
    again: Callable[..., Trace] | None = field(default=None, repr=False, compare=False)
    recomputed: tuple[str, ...] = ()
    ran: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    @property
    def peak_bytes(self) -> int:
        """The most that is seen alive at any moment: parameters, inputs and all."""
        return max(self.timeline)

    @property
    def peak(self) -> Interval:
        """The peak as an interval: of no width where all was seen."""
        seen = self.peak_bytes
        if not self.hidden_bytes:
            return Interval.exact(seen)
        high = seen + self.hidden_bytes
        return Interval(seen, (seen + high) / 2, high, "measured", ("oneDNN's recurrent layers, each alone",))

    def live_at_peak(self) -> list[Storage]:
        """What is alive at the peak, the largest first."""
        return self._live_at(self.timeline.index(self.peak_bytes))

    def parts_at_peak(self) -> dict[str, int]:
        """Bytes at the peak by what they are for; they sum to `peak_bytes`."""
        return _sums((s.part, s.bytes) for s in self.live_at_peak())

    def lines_at_peak(self) -> dict[str, int]:
        """Bytes at the peak by the line of the caller's that made them; "" is what was there before."""
        return _sums((s.line, s.bytes) for s in self.live_at_peak())

    def modules_at_peak(self) -> dict[str, int]:
        """Bytes of activations at the peak by the module that made them."""
        return _sums((s.module, s.bytes) for s in self.live_at_peak() if s.part == "activations")

    def savings(self, most: int = 12) -> Savings:
        """What recomputing modules in backward would save, as torch.utils.checkpoint does it.

        Each row is a trace of its own: a checkpoint keeps its inputs, and computing it again takes memory
        too, at another moment, so what it saves is not what it held.

        Args:
            most: rows; first come the modules that hold most activations at the peak.

        Raises:
            ValueError: this engine has no checkpoints.
        """
        from mlsys_lab.capacity.savings import savings

        return savings(self, most)

    def __str__(self) -> str:
        """The peak, and what is alive then by part and by line."""
        moment, count = self.timeline.index(self.peak_bytes) + 1, len(self.timeline)
        unseen = f", at most {show(self.hidden_bytes, 'B')} more unseen" if self.hidden_bytes else ""
        told = [f"peak {show(self.peak_bytes, 'B')}{unseen}, at moment {moment:,} of {count:,}"]
        for title, sizes in (("part", self.parts_at_peak()), ("line", self.lines_at_peak())):
            wide = max(map(len, sizes), default=0)
            for name, size in list(sizes.items())[:12]:
                told.append(f"  {title} {name or '(there before)':{max(wide, 14)}}  {show(size, 'B')}")
        return "\n".join(told)

    def _repr_html_(self) -> str:
        from mlsys_lab.capacity.trace_html import as_html

        return as_html(self)

    def _live_at(self, moment: int) -> list[Storage]:
        live = [s for s in self.storages if s.born <= moment and (s.died is None or s.died > moment)]
        return sorted(live, key=lambda s: -s.bytes)


def _sums(pairs: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for name, size in pairs:
        total[name] += size
    return dict(total.most_common())
