"""The lanes of a chunk of blocks and what instructions ask of them: memory, the warp, the counters.

`rows` are the lanes that run just now, as places among those alive; None means all that are alive. A lane's
`place` is block * threads + thread within the chunk, blocks padded to whole warps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.counts import Counts
from mlsys_lab.kernels.ptx.flow import Block
from mlsys_lab.kernels.ptx.memory import GLOBAL, LOCAL, SHARED, WINDOW, Arena
from mlsys_lab.kernels.ptx.races import Shadow
from mlsys_lab.kernels.ptx.translate import Access

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
        found: dict[str, Any] = {
            "%tid.x": thread % u(bx), "%tid.y": thread // u(bx) % u(by), "%tid.z": thread // u(bx * by),
            "%ctaid.x": block % u(gx), "%ctaid.y": block // u(gx) % u(gy), "%ctaid.z": block // u(gx * gy),
            "%ntid.x": u(bx), "%ntid.y": u(by), "%ntid.z": u(bz), "%nctaid.x": u(gx), "%nctaid.y": u(gy),
            "%nctaid.z": u(gz), "%laneid": lane, "%warpid": thread // u(WARP), "%nwarpid": u(self.threads // WARP),
            "%smid": u(0), "%nsmid": u(1), "%gridid": u(0), "%clock": u(0), "%clock64": np.uint64(0),
            "%globaltimer": np.uint64(0), "%dynamic_smem_size": u(0), "%total_smem_size": u(self.shared_bytes),
            "%lanemask_eq": one << lane, "%lanemask_lt": (one << lane) - one,
            "%lanemask_le": ((one << lane) - one) | (one << lane), "%lanemask_gt": ~(((one << lane) - one) | (one << lane)),
            "%lanemask_ge": ~((one << lane) - one),
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

    # Memory.

    def load(self, access: Access, address: Any, offset: int, guard: Any) -> tuple[Any, ...]:
        """Values at addresses, one array per part of a vector; zero for lanes that the guard holds back."""
        data, index, place, chosen, same = self.resolve(access, address, offset, guard, False)
        if index is None:
            return tuple(np.zeros((), TYPES[access.kind])[()] for _ in range(access.lanes))
        view = data.view(TYPES[access.kind])
        out = []
        for part in range(access.lanes):
            values = view[index + part] if not same else view[int(index) + part]
            if chosen is not None:
                whole = np.zeros(len(self.place) if self.rows is None else len(self.rows), view.dtype)
                whole[chosen] = values
                values = whole
            out.append(values)
        return tuple(out)

    def store(self, access: Access, address: Any, offset: int, guard: Any, *values: Any) -> None:
        """Write values; where several lanes write one place, the last wins."""
        data, index, place, chosen, _ = self.resolve(access, address, offset, guard, True, values)
        if index is None:
            return
        view = data.view(TYPES[access.kind])
        for part, value in enumerate(values):
            if getattr(value, "ndim", 0):
                value = value if chosen is None else value[chosen]
            view[index + part] = value.view(view.dtype) if value.dtype != view.dtype else value

    def resolve(
        self, access: Access, address: Any, offset: int, guard: Any, store: bool, values: tuple[Any, ...] = ()
    ) -> tuple[Any, Any, np.ndarray, np.ndarray | None, bool]:
        """Find the memory and the index of each lane's element; check, count and watch the access."""
        place, chosen = self.current(guard)
        nothing = (None, None, place, chosen, False)
        if not len(place):
            return nothing
        single = not getattr(address, "ndim", 0)
        space = access.space
        where = np.asarray(address).astype(np.int64) + offset
        if not single and chosen is not None:
            where = where[chosen]
        if not space:
            space, where = self.windowed(where)
        if space == "global" or space == "const":
            data: np.ndarray = self.arena.data
            at = where - GLOBAL
        elif space == "shared":
            data, at = self.shared, where
        else:
            data, at = self.local, where
        at = np.atleast_1d(at)
        good = self.checked(access, space, at, place)
        if good is not None:
            if single:
                return nothing
            kept = np.flatnonzero(good)
            if not len(kept):
                return nothing
            at, place = at[kept], place[kept]
            chosen = kept if chosen is None else chosen[kept]
        lanes = np.broadcast_to(at, place.shape)
        self.watch(access, space, lanes, place, single, store, values)
        unit = TYPES[access.kind]().itemsize if access.kind != "bf16" else 2
        if space == "shared":
            at = at + (place // self.threads) * self.stride
        elif space == "local":
            at = at + place * (len(self.local) // (self.blocks * self.threads))
        same = single and space in ("global", "const") and not store and chosen is None
        index = at // unit
        if same:
            return data, index[0], place, chosen, True
        return data, np.broadcast_to(index, place.shape), place, chosen, False

    def windowed(self, where: np.ndarray) -> tuple[str, np.ndarray]:
        """The state space of generic addresses."""
        first = int(np.min(where))
        for name, base in (("shared", SHARED), ("local", LOCAL)):
            if base <= first < base + WINDOW:
                return name, where - base
        return "global", where

    def checked(self, access: Access, space: str, at: np.ndarray, place: np.ndarray) -> np.ndarray | None:
        """Which accesses are aligned and inside; None when all are. The first that is not is recorded."""
        size = access.size
        good = None
        if size > 1 and (np.bitwise_or.reduce(at) & (size - 1)):
            good = (at & (size - 1)) == 0
            i = int(np.argmin(good))
            what = (
                self.arena.described(int(at[i]))
                if space == "global"
                else f"byte {int(at[i])} of {space} memory"
            )
            self.error(
                "misaligned",
                access.line,
                f"line {access.line}: {self.named(int(place[i]))} accesses {what}: {size} bytes at an address that is no multiple of {size}",
            )
        if space in ("global", "const"):
            inside = self.arena.inside(at, size)
        else:
            limit = self.shared_bytes if space == "shared" else self.local_bytes
            inside = None if at.min() >= 0 and at.max() + size <= limit else (at >= 0) & (at + size <= limit)
        if inside is not None:
            i = int(np.argmin(inside))
            verb = "writes" if access.store or access.atomic else "reads"
            what = (
                self.arena.described(int(at[i]))
                if space in ("global", "const")
                else f"byte {int(at[i])} of {space} memory, which has {self.shared_bytes if space == 'shared' else self.local_bytes}"
            )
            self.error(
                "out_of_bounds", access.line, f"line {access.line}: {self.named(int(place[i]))} {verb} {what}"
            )
            good = inside if good is None else good & inside
        return good

    def matrix(self, at: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Addresses by warp: (warps, 32), -1 where a lane is off."""
        if self.whole and len(place) == len(self.place):
            return at.reshape(-1, WARP)
        warps = place >> 5
        new = np.diff(warps, prepend=-1) != 0
        rows = np.full((int(new.sum()), WARP), -1, np.int64)
        rows[np.cumsum(new) - 1, place & (WARP - 1)] = at
        return rows

    def watch(
        self,
        access: Access,
        space: str,
        at: np.ndarray,
        place: np.ndarray,
        single: bool,
        store: bool,
        values: Any,
    ) -> None:
        """Count requests, sectors and wavefronts; look for races and for memory that nobody wrote."""
        if space in ("global", "shared"):
            self.counts.request(access, space, self.matrix(at, place))
        if space == "shared":
            base = at + (place // self.threads) * self.stride
            if store:
                for byte in range(0, access.size):
                    self.written[base + byte] = True
            elif not (self.written[base].all() and self.written[base + access.size - 1].all()):
                i = int(np.argmin(self.written[base]))
                self.error(
                    "uninitialised_shared",
                    access.line,
                    f"line {access.line}: {self.named(int(place[i]))} reads byte {int(at[i])} of shared memory, which nobody has written",
                )
            self.race(self.shadow_shared, access, base, place, store, values)
        elif space == "global" and self.shadow_global is not None and access.index in self.watched:
            self.race(self.shadow_global, access, at, place, store, values)

    def race(
        self,
        shadow: Shadow | None,
        access: Access,
        at: np.ndarray,
        place: np.ndarray,
        store: bool,
        values: Any,
    ) -> None:
        if shadow is None:
            return
        stamps = self.stamps(shadow, place)
        granule = self.granule if shadow is self.shadow_shared else self.fine
        for part in range(0, max(access.size, granule), granule):
            where = (at + part) // granule
            if access.atomic:
                self.note_reads()
                shadow.against_writers(where, stamps, access.line, "read-write", True)
                shadow.write(where, stamps, access.line, atomic=True)
            elif store:
                self.note_reads()
                value = values[min(part * access.lanes // access.size, len(values) - 1)]
                fits = np.size(value) in (1, len(where))
                shadow.write(where, stamps, access.line, np.broadcast_to(value, where.shape) if fits else None)
            else:
                shadow.against_writers(where, stamps, access.line, "read-write", False)
                if shadow is self.shadow_shared:
                    self.reads.append((where, stamps, access.line))
                else:
                    shadow.read(where, stamps, access.line)

    def note_reads(self) -> None:
        """Note the reads of shared memory since the last barrier: only a write asks for them."""
        for where, stamps, line in self.reads if self.shadow_shared is not None else ():
            self.shadow_shared.read(where, stamps, line)  # type: ignore[union-attr]
        self.reads.clear()

    def stamps(self, shadow: Shadow, place: np.ndarray) -> np.ndarray:
        """Time and thread of each running lane; made once for all lanes while no barrier is passed."""
        everybody = self.rows is None and len(place) == len(self.place)
        if everybody and self.stamped is not None and len(self.stamped) == len(place):
            return self.stamped
        who = place + self.first * self.threads
        found = shadow.stamps(who, self.interval[place // self.threads], self.sub_interval[place >> 5])
        if everybody:
            self.stamped = found
        return found

    def atomic(self, access: Access, address: Any, offset: int, guard: Any, *values: Any) -> Any:
        """Read, change and write, lane by lane in order; the values before."""
        running = len(self.place) if self.rows is None else len(self.rows)
        dtype = TYPES[access.kind]
        out = np.zeros(running, dtype)
        data, index, place, chosen, _ = self.resolve(access, address, offset, guard, True)
        if index is None:
            return out
        view = data.view(dtype)
        given = [np.broadcast_to(v, running) for v in values]
        if chosen is not None:
            given = [g[chosen] for g in given]
        before = changed(view, index, access.atomic, given)
        out[slice(None) if chosen is None else chosen] = before
        return out

    # The warp.

    def by_warp(self, values: Any, place: np.ndarray, fill: Any) -> np.ndarray:
        """Values at the places of the chunk's lanes."""
        whole = np.full(self.blocks * self.threads, fill, values.dtype)
        whole[place] = values
        return whole

    def shuffle(self, way: str, value: Any, by: Any, clamp: Any, member: Any, guard: Any) -> tuple[Any, Any]:
        """Values of other lanes of the warp, and whether there was such a lane."""
        place, _ = self.current()
        value = np.broadcast_to(value, place.shape)
        whole = self.by_warp(value, place, 0)
        lane = place & (WARP - 1)
        by, clamp = np.asarray(by, np.int64), np.asarray(clamp, np.int64)
        segment, limit = (clamp >> 8) & 31, clamp & 31
        low = lane & segment
        high = low | (limit & ~segment)
        if way == "up":
            source, fine = lane - by, lane - by >= high
        elif way == "down":
            source, fine = lane + by, lane + by <= high
        elif way == "bfly":
            source, fine = lane ^ by, (lane ^ by) <= high
        else:
            source, fine = low | (by & ~segment & 31), (low | (by & ~segment & 31)) <= high
        source = np.where(fine, source, lane)
        return whole[(place & ~np.int64(WARP - 1)) + source], np.broadcast_to(fine, place.shape)

    def masks(self, place: np.ndarray, holds: np.ndarray) -> np.ndarray:
        """Per running lane, the bits of its warp's lanes for which something holds."""
        bits = np.zeros(self.blocks * self.threads, np.uint64)
        bits[place] = np.where(holds, np.uint64(1) << (place & (WARP - 1)).astype(np.uint64), np.uint64(0))
        sums = bits.reshape(-1, WARP).sum(axis=1)
        return sums[place >> 5].astype(np.uint32)

    def active_mask(self) -> Any:
        place, _ = self.current()
        return self.masks(place, np.ones(place.shape, bool))

    def vote(self, way: str, holds: Any, guard: Any) -> Any:
        place, _ = self.current()
        holds = np.broadcast_to(holds, place.shape)
        here, yes = self.active_mask(), self.masks(place, holds)
        return {
            "all": lambda: yes == here, "any": lambda: yes != 0, "ballot": lambda: yes,
            "uni": lambda: (yes == here) | (yes == 0),
        }[way]()  # fmt: skip

    def reduce(self, way: str, value: Any, guard: Any) -> Any:
        place, _ = self.current()
        value = np.broadcast_to(value, place.shape)
        function, fill = REDUCE[way]
        whole = self.by_warp(value, place, fill(value.dtype)).reshape(-1, WARP)
        return function.reduce(whole, axis=1, dtype=value.dtype)[place >> 5]

    def match(self, way: str, value: Any, guard: Any) -> tuple[Any, Any]:
        place, _ = self.current()
        value = np.broadcast_to(value, place.shape)
        on = np.zeros(self.blocks * self.threads, bool)
        on[place] = True
        rows, lit = self.by_warp(value, place, 0).reshape(-1, WARP), on.reshape(-1, WARP)
        mine = rows[place >> 5] == value[:, None]
        mine &= lit[place >> 5]
        powers = np.uint64(1) << np.arange(WARP, dtype=np.uint64)
        found = (mine * powers).sum(axis=1).astype(np.uint32)
        if way == "any":
            return found, np.ones(place.shape, bool)
        same = found == self.active_mask()
        return np.where(same, found, np.uint32(0)), same

    def sync_warp(self, member: Any, guard: Any) -> None:
        place, _ = self.current(guard)
        self.sub_interval[np.unique(place >> 5)] += 1
        self.stamped = None

    def passed_barrier(self, blocks: np.ndarray | None) -> None:
        """A barrier orders what came before it."""
        if blocks is None or len(blocks) == self.blocks:
            self.reads.clear()
        else:
            self.note_reads()
        self.interval[slice(None) if blocks is None else blocks] += 1
        self.stamped = None

    def fence(self, line: int) -> None:
        self.counts.fences = True

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


TYPES: dict[str, Callable[..., Any]] = {
    **{"u8": np.uint8, "s8": np.int8, "u16": np.uint16, "s16": np.int16, "u32": np.uint32, "s32": np.int32},
    **{"u64": np.uint64, "s64": np.int64, "f32": np.float32, "f64": np.float64, "f16": np.float16},
    **{"b8": np.uint8, "b16": np.uint16, "b32": np.uint32, "b64": np.uint64, "bf16": np.uint16},
    **{"f16x2": np.uint32, "bf16x2": np.uint32},
}
REDUCE: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "add": (np.add, lambda d: 0), "and": (np.bitwise_and, lambda d: ~d.type(0)), "or": (np.bitwise_or, lambda d: 0),
    "xor": (np.bitwise_xor, lambda d: 0), "min": (np.minimum, lambda d: np.iinfo(d).max),
    "max": (np.maximum, lambda d: np.iinfo(d).min),
}  # fmt: skip


def changed(view: np.ndarray, index: np.ndarray, way: str, given: list[Any]) -> np.ndarray:
    """Apply an atomic operation lane after lane; what each found."""
    index = np.ascontiguousarray(index)
    before = np.empty(len(index), view.dtype)
    if len(np.unique(index)) == len(index):
        before[:] = view[index]
        view[index] = one_atomic(way, before, given)
        return before
    order = np.argsort(index, kind="stable")  # rounds: the first lane of each place, then the second, ...
    sorted_index = index[order]
    start = np.flatnonzero(np.diff(sorted_index, prepend=sorted_index[0] - 1))
    nth = np.arange(len(index)) - np.repeat(start, np.diff(np.append(start, len(index))))
    for turn in range(int(nth.max()) + 1):
        lanes = order[nth == turn]
        before[lanes] = view[index[lanes]]
        view[index[lanes]] = one_atomic(way, before[lanes], [g[lanes] for g in given])
    return before


def one_atomic(way: str, old: np.ndarray, given: list[Any]) -> Any:
    """The new value of an atomic operation, PTX ISA 9.7.13.5."""
    value = given[0].view(old.dtype) if given[0].dtype != old.dtype else given[0]
    if way == "cas":
        return np.where(old == value, given[1].view(old.dtype), old)
    if way == "inc":
        return np.where(old >= value, old.dtype.type(0), old + old.dtype.type(1))
    if way == "dec":
        return np.where((old == 0) | (old > value), value, old - old.dtype.type(1))
    functions = {
        "add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
        "xor": np.bitwise_xor, "exch": lambda a, b: b,
    }  # fmt: skip
    return functions[way](old, value)
