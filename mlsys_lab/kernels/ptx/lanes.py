"""The lanes of a chunk of blocks and what instructions ask of them: memory, the warp, the counters.

`rows` are the lanes that run just now, as places among those alive; None means all that are alive. A lane's
`place` is block * threads + thread within the chunk, blocks padded to whole warps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.counts import Counts
from mlsys_lab.kernels.ptx.flow import Block
from mlsys_lab.kernels.ptx.memory import GLOBAL, LOCAL, SHARED, WINDOW, Arena
from mlsys_lab.kernels.ptx.order import Order
from mlsys_lab.kernels.ptx.races import Shadow

WARP = 32


class Lanes:
    """See the module.

    Args:
        grid: blocks along x, y, z.
        block: threads along x, y, z.
        first: the first block of this chunk.
        blocks: blocks in this chunk.
        arena: global memory.
        shared_bytes: of a block.
        counts: where everything is counted.
    """

    def __init__(
        self,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        first: int,
        blocks: int,
        arena: Arena,
        shared_bytes: int,
        local_bytes: int,
        counts: Counts,
        parameters: dict[str, tuple[int, int]],
        parameter_data: bytes,
    ) -> None:
        size = block[0] * block[1] * block[2]
        self.grid, self.block, self.first, self.blocks, self.size = grid, block, first, blocks, size
        self.threads = -(-size // WARP) * WARP
        everywhere = np.arange(blocks * self.threads, dtype=np.int64)
        self.place = everywhere[everywhere % self.threads < size] if size != self.threads else everywhere
        self.whole = size == self.threads
        self.arena, self.counts, self.parameters, self.parameter_data = (
            arena,
            counts,
            parameters,
            parameter_data,
        )
        self.shared_bytes, self.local_bytes = shared_bytes, local_bytes
        self.shared = np.zeros(blocks * (-(-shared_bytes // 16) * 16 or 16), np.uint8)
        self.stride = len(self.shared) // blocks
        self.written = np.zeros(len(self.shared), bool)
        self.local = np.zeros(blocks * self.threads * (-(-local_bytes // 16) * 16 or 16), np.uint8)
        self.rows: np.ndarray | None = None
        self.interval = np.zeros(blocks, np.int64)
        self.sub_interval = np.zeros(blocks * self.threads // WARP, np.int64)
        self.shadow_shared: Shadow | None = None
        self.shadow_global: Shadow | None = None
        self.order: Order | None = None
        self.granule = self.fine = 4  # bytes that the shadows of shared and of global memory tell apart
        self.watched: set[int] = set()
        self.reads: list[tuple[np.ndarray, np.ndarray, int]] = []
        self.stamped: np.ndarray | None = None
        self.values: dict[str, Any] = self.special()

    def special(self) -> dict[str, Any]:
        """The special registers."""
        thread = (self.place % self.threads).astype(np.uint32)
        block = (self.place // self.threads + self.first).astype(np.uint32)
        (bx, by, bz), (gx, gy, gz) = self.block, self.grid
        u = np.uint32
        lane = (self.place % WARP).astype(u)
        one = u(1)
        below = (one << lane) - one
        found: dict[str, Any] = {
            "%tid.x": thread % u(bx), "%tid.y": thread // u(bx) % u(by), "%tid.z": thread // u(bx * by),
            "%ctaid.x": block % u(gx), "%ctaid.y": block // u(gx) % u(gy), "%ctaid.z": block // u(gx * gy),
            "%ntid.x": u(bx), "%ntid.y": u(by), "%ntid.z": u(bz), "%nctaid.x": u(gx), "%nctaid.y": u(gy),
            "%nctaid.z": u(gz), "%laneid": lane, "%warpid": thread // u(WARP),
            "%nwarpid": u(self.threads // WARP),
            "%smid": u(0), "%nsmid": u(1), "%gridid": u(0), "%clock": u(0), "%clock64": np.uint64(0),
            "%globaltimer": np.uint64(0), "%dynamic_smem_size": u(0),
            "%total_smem_size": u(self.shared_bytes),
            "%lanemask_eq": one << lane, "%lanemask_lt": below,
            "%lanemask_le": below | (one << lane), "%lanemask_gt": ~(below | (one << lane)),
            "%lanemask_ge": ~below,
        }  # fmt: skip
        for name, n in (("%tid.y", by), ("%tid.z", bz), ("%ctaid.y", gy), ("%ctaid.z", gz)):
            if n == 1:
                found[name] = u(0)
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

    def count(self, here: int, block: Block) -> None:
        """Count an execution of a block of code: lanes and warps."""
        place = self.place if self.rows is None else self.place[self.rows]
        lanes = len(place)
        whole = self.whole and self.rows is None
        warps = lanes // WARP if whole else int(np.count_nonzero(np.diff(place >> 5, prepend=-1)))
        self.counts.executed(here, lanes, warps)

    def error(self, kind: str, line: int, message: str) -> None:
        self.counts.error(kind, line, message)

    def named(self, place: int) -> str:
        """A lane as people name it."""
        return f"thread {self.thread_of(place)} of block {self.block_of(place)}"

    def thread_of(self, place: int) -> tuple[int, int, int]:
        thread = place % self.threads
        return (
            thread % self.block[0],
            thread // self.block[0] % self.block[1],
            thread // (self.block[0] * self.block[1]),
        )

    def block_of(self, place: int) -> tuple[int, int, int]:
        block = place // self.threads + self.first
        return (
            block % self.grid[0],
            block // self.grid[0] % self.grid[1],
            block // (self.grid[0] * self.grid[1]),
        )

    # Values from outside.

    def parameter(self, name: str, offset: int, dtype: np.dtype[Any]) -> Any:
        start = self.parameters[name][0] + offset
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

    # Time and speech.

    def note_reads(self) -> None:
        """See `Memory`."""

    def passed_barrier(self, blocks: np.ndarray | None) -> None:
        """A barrier orders what came before it."""
        if blocks is None or len(blocks) == self.blocks:
            self.reads.clear()
        else:
            self.note_reads()
        self.interval[slice(None) if blocks is None else blocks] += 1
        self.stamped = None

    def fence(self, guard: Any) -> None:
        """Threads run a fence."""
        if self.order is not None:
            place, _ = self.current(guard)
            self.order.fence(place + self.first * self.threads)

    def printf(self, text: Any, values: Any, guard: Any) -> None:
        """The text at an address with its values in local memory; lanes in order."""
        place, _ = self.current(guard)
        start = int(np.atleast_1d(np.asarray(text))[0]) - GLOBAL
        end = start
        while self.arena.data[end]:
            end += 1
        form = bytes(self.arena.data[start:end]).decode("utf-8", "replace")
        per = len(self.local) // (self.blocks * self.threads)
        at = np.broadcast_to(np.asarray(values), place.shape if guard is None else (len(place),))
        for lane, address in zip(place, at, strict=True):
            base = int(lane) * per + int(address) % WINDOW
            self.counts.say(form, self.local[base : base + 128].tobytes())
