"""What a launch would do on the hardware, in total and per source line."""

from __future__ import annotations

from typing import Any

from mlsys_lab.kernels.classes import class_of, flops_of
from mlsys_lab.kernels.lines import GlobalAccess, Line, SharedAccess
from mlsys_lab.kernels.listing import as_html, as_text
from mlsys_lab.kernels.ptx.counts import Counts, Error, Traffic
from mlsys_lab.kernels.ptx.program import Program
from mlsys_lab.kernels.race import Race


class Report:
    """See the module.

    Attributes:
        global_loads, global_stores, shared: totals.
        flops: floating-point operations; a fused multiply-add is two.
        instructions: of warps, in total; `classes` by kind.
        lines: by line of the source.
        errors, races: what was wrong; kinds of errors: out_of_bounds, misaligned, uninitialised_shared,
            uninitialised, divergent_barrier, divergent_warp, undefined_shuffle, async_not_waited, deadlock,
            step_limit, stack_overflow and trap.
        printed: what printf said.
        short_barriers: lines of barriers before which some threads of the block had returned.
        source, launch: the source, and kernel, grid and block, set by the launch, for `__str__` and the
            notebook; `estimate` of a GPU where somebody set one.
        stopped: why the launch was given up, or "".
    """

    def __init__(self, program: Program, counts: Counts, races: list[Race], stopped: str = "") -> None:
        self.errors: list[Error] = counts.errors
        self.races = [r for r in races if r.kind != "same-value"]
        self.same_value_writes = [r for r in races if r.kind == "same-value"]
        self.printed, self.stopped, self.source = counts.printed, stopped, ""
        self.launch, self.short_barriers = "", counts.short
        self.estimate: Any = None
        self.global_loads, self.global_stores, self.shared = GlobalAccess(), GlobalAccess(), SharedAccess()
        self.lines: dict[int, Line] = {}
        self.classes: dict[str, int] = {}
        self.flops = self.instructions = 0
        self._instructions(program, counts)
        for one in counts.traffic.values():
            self._traffic(one)

    def at(self, line: int) -> Line:
        return self.lines.setdefault(line, Line(line))

    def _instructions(self, program: Program, counts: Counts) -> None:
        for place, block in enumerate(program.blocks):
            lanes, warps = counts.lanes[place], counts.warps[place]
            if not warps:
                continue
            code = program.kernel.code[block.first : block.last]
            for one in [*code, *([block.closing] if block.closing else [])]:
                if one.op[0][0] == "_":  # half of another, see `rewriting`
                    continue
                line = self.at(one.line)
                line.instructions += warps
                line.lanes += lanes
                self.instructions += warps
                kind = class_of(one.op)
                for classes in (self.classes, line.classes):
                    classes[kind] = classes.get(kind, 0) + warps
                flops = flops_of(one.op) * lanes
                line.flops += flops
                self.flops += flops

    def _traffic(self, one: Traffic) -> None:
        line = self.at(one.access.line)
        if one.space == "global":
            store = one.access.store or bool(one.access.atomic)
            totals = (self.global_stores, line.stores) if store else (self.global_loads, line.loads)
            for total in totals:
                total.requests += one.requests
                total.sectors += one.sectors
                total.bytes += one.bytes
                total.distinct += one.distinct
                total.fewest += one.fewest
        elif one.space == "shared":
            for shared in (self.shared, line.shared):
                shared.requests += one.requests
                shared.wavefronts += one.wavefronts
                shared.ideal += one.ideal

    @property
    def active(self) -> float:
        """Lanes that ran, of those of the warps that ran."""
        lanes = sum(x.lanes for x in self.lines.values())
        return lanes / (32 * self.instructions) if self.instructions else 1.0

    @property
    def intensity(self) -> float:
        """Floating-point operations per byte that sectors of global memory moved."""
        moved = 32 * (self.global_loads.sectors + self.global_stores.sectors)
        return self.flops / moved if moved else 0.0

    def __str__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def to_json(self) -> dict[str, Any]:
        """The totals, lines, errors and races as plain values."""
        lines = {n: x.to_json() for n, x in sorted(self.lines.items())}
        return {
            "global_loads": vars(self.global_loads), "global_stores": vars(self.global_stores),
            "shared": vars(self.shared), "flops": self.flops, "intensity": self.intensity,
            "instructions": self.instructions,
            "classes": self.classes, "errors": [vars(e) for e in self.errors],
            "races": [vars(r) for r in self.races], "lines": lines, "printed": self.printed,
            "launch": self.launch, "same_value_writes": [vars(r) for r in self.same_value_writes],
        }  # fmt: skip
