"""The lanes of a chunk of blocks and what instructions ask of them: memory, the warp, the counters.

`rows` are the lanes that run just now, as places among those alive; None means all that are alive. A lane's
`place` is block * threads + thread within the chunk, blocks padded to whole warps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.code import Access
from mlsys_lab.kernels.ptx.counts import Counts
from mlsys_lab.kernels.ptx.memory import GLOBAL, LOCAL, SHARED, WINDOW, Arena
from mlsys_lab.kernels.ptx.order import Order
from mlsys_lab.kernels.ptx.program import Program
from mlsys_lab.kernels.ptx.races import Shadow

WARP = 32
Sizes = tuple[int, int, int]


def spread(index: Any, sizes: Sizes) -> Any:
    """A number as coordinates along x, y, z."""
    x, y, _ = sizes
    return index % x, index // x % y, index // (x * y)


class Lanes:
    """See the module.

    Args:
        program: the kernel.
        grid: blocks along x, y, z.
        block: threads along x, y, z.
        first: the first block of this chunk.
        blocks: blocks in this chunk.
        arena: global memory.
        shared_bytes: of a block.
        counts: where everything is counted.
        parameter_data: the bytes of the parameters.
    """

    def __init__(
        self, program: Program, grid: Sizes, block: Sizes, first: int, blocks: int, arena: Arena,
        shared_bytes: int, counts: Counts, parameter_data: bytes,
    ) -> None:  # fmt: skip
        size = block[0] * block[1] * block[2]
        self.grid, self.block, self.first, self.blocks, self.size = grid, block, first, blocks, size
        self.threads = -(-size // WARP) * WARP
        everywhere = np.arange(blocks * self.threads, dtype=np.int64)
        self.place = everywhere[everywhere % self.threads < size] if size != self.threads else everywhere
        self.whole = size == self.threads
        self.program, self.arena, self.counts, self.parameter_data = program, arena, counts, parameter_data
        self.shared_bytes, self.local_bytes = shared_bytes, program.local_bytes
        self.stride = -(-shared_bytes // 16) * 16 or 16  # of a block's shared memory
        self.shared = np.zeros(blocks * self.stride, np.uint8)
        self.written = np.zeros(len(self.shared), bool)
        self.local_stride = -(-self.local_bytes // 16) * 16 or 16
        self.local = np.zeros(blocks * self.threads * self.local_stride, np.uint8)
        self.rows: np.ndarray | None = None
        self.interval = np.zeros(blocks, np.int64)
        self.sub_interval = np.zeros(blocks * self.threads // WARP, np.int64)
        self.shadow_shared: Shadow | None = None
        self.shadow_global: Shadow | None = None
        self.order: Order | None = None
        self.reads: list[tuple[np.ndarray, np.ndarray, Access]] = []
        self.stamped: np.ndarray | None = None
        self.values: dict[str, Any] = self.special()

    def special(self) -> dict[str, Any]:
        """The special registers."""
        thread = (self.place % self.threads).astype(np.uint32)
        block = (self.place // self.threads + self.first).astype(np.uint32)
        u, lane = np.uint32, (self.place % WARP).astype(np.uint32)
        one = u(1) << lane
        below = one - u(1)
        found: dict[str, Any] = {
            "%laneid": lane, "%warpid": thread // u(WARP), "%nwarpid": u(self.threads // WARP),
            "%smid": u(0), "%nsmid": u(1), "%gridid": u(0),
            "%dynamic_smem_size": u(0),
            "%total_smem_size": u(self.shared_bytes), "%lanemask_eq": one, "%lanemask_lt": below,
            "%lanemask_le": below | one, "%lanemask_gt": ~(below | one), "%lanemask_ge": ~below,
        }  # fmt: skip
        for name, index, sizes in (("tid", thread, self.block), ("ctaid", block, self.grid)):
            for axis, value, size in zip("xyz", spread(index, sizes), sizes, strict=True):
                found[f"%{name}.{axis}"] = value if size > 1 or axis == "x" else u(0)
                found[f"%n{name}.{axis}"] = u(size)
        return found

    def keep(self, rows: np.ndarray) -> None:
        """Go on with these lanes; the others have ended."""
        self.place, self.whole = self.place[rows], False
        self.values = {n: v[rows] if getattr(v, "ndim", 0) else v for n, v in self.values.items()}
        self.stamped = None

    def current(self, guard: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Places of the running lanes that a guard lets through, and which they are among the running."""
        place = self.place if self.rows is None else self.place[self.rows]
        if guard is None:
            return place, None
        chosen = np.flatnonzero(np.broadcast_to(guard, place.shape))
        return place[chosen], chosen

    def running(self) -> int:
        """How many lanes run just now."""
        return len(self.place if self.rows is None else self.rows)

    def count(self, here: int) -> None:
        """Count an execution of a block of code: lanes and warps."""
        place, lanes = self.current()[0], self.running()
        whole = self.whole and self.rows is None
        warps = lanes // WARP if whole else int(np.count_nonzero(np.diff(place >> 5, prepend=-1)))
        self.counts.lanes[here] += lanes
        self.counts.warps[here] += warps

    def named(self, place: int) -> str:
        """A lane as people name it."""
        return f"thread {self.thread_of(place)} of block {self.block_of(place)}"

    def thread_of(self, place: int) -> Sizes:
        return spread(place % self.threads, self.block)

    def block_of(self, place: int) -> Sizes:
        return spread(place // self.threads + self.first, self.grid)

    # Values from outside.

    def parameter(self, name: str, offset: int, dtype: np.dtype[Any]) -> Any:
        start = self.program.parameters[name][0] + offset
        return np.frombuffer(self.parameter_data, dtype, 1, start)[0]

    @staticmethod
    def packed(dtype: str, *parts: Any) -> Any:
        whole: Any = np.dtype(dtype).type(0)
        for i, part in enumerate(parts):
            bits = part.view(f"u{part.dtype.itemsize}").astype(dtype)
            whole = whole | (bits << np.dtype(dtype).type(8 * part.dtype.itemsize * i))
        return whole

    def generic(self, space: str, value: Any, back: bool) -> Any:
        """An address of shared or local memory as a generic one, or back."""
        base = np.uint64(SHARED if space == "shared" else LOCAL)
        return value - base if back else value + base

    def is_in(self, space: str, address: Any) -> Any:
        base = {"global": GLOBAL, "shared": SHARED, "local": LOCAL}.get(space, 0)
        return (address >= np.uint64(base)) & (address < np.uint64(base + WINDOW))

    # Time.

    def note_reads(self) -> None:
        """See `Memory`."""

    def passed_barrier(self, blocks: np.ndarray | None) -> None:
        """A barrier orders what came before it."""
        if blocks is None or len(blocks) == self.blocks:
            self.reads.clear()
        else:
            self.note_reads()
        if self.order is not None:
            some = range(self.blocks) if blocks is None else blocks.tolist()
            self.order.barrier({self.first + b for b in some})
        self.interval[slice(None) if blocks is None else blocks] += 1
        self.stamped = None
