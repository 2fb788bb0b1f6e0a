"""Loads, stores and atomic operations of the running lanes: found, checked, counted, watched for races."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.atomics import changed
from mlsys_lab.kernels.ptx.code import BYTES, Access
from mlsys_lab.kernels.ptx.lanes import WARP
from mlsys_lab.kernels.ptx.memory import GLOBAL, LOCAL, SHARED, WINDOW
from mlsys_lab.kernels.ptx.races import Array, Shadow, stamped
from mlsys_lab.kernels.ptx.table import DTYPES
from mlsys_lab.kernels.ptx.warp import Warp

MOST_LOGGED = 1 << 24  # reads of shared memory that are kept before they are noted


class Memory(Warp):
    """See the module."""

    def load(self, access: Access, address: Any, offset: int, guard: Any) -> tuple[Any, ...]:
        """Values at addresses, one array per part of a vector; zero for lanes that the guard holds back."""
        view, index, chosen = self.resolve(access, address, offset, guard, False)
        if index is None:
            return (DTYPES[access.kind](0),) * access.lanes
        out = []
        for part in range(access.lanes):
            values = view[index + part]
            if chosen is not None:
                whole = np.zeros(self.running(), view.dtype)
                whole[chosen] = values
                values = whole
            out.append(values)
        return tuple(out)

    def store(self, access: Access, address: Any, offset: int, guard: Any, *values: Any) -> None:
        """Write values; where several lanes write one place, the last wins."""
        view, index, chosen = self.resolve(access, address, offset, guard, True, values)
        if index is None:
            return
        for part, value in enumerate(values):
            if getattr(value, "ndim", 0):
                value = value if chosen is None else value[chosen]
            view[index + part] = value.view(view.dtype) if value.dtype != view.dtype else value

    def resolve(
        self, access: Access, address: Any, offset: int, guard: Any, store: bool, values: tuple[Any, ...] = ()
    ) -> tuple[Any, Any, np.ndarray | None]:
        """Find the memory, each lane's index and which lanes they are; check, count and watch the access.

        The index is one number where all lanes read one place, None where no lane is left.
        """
        place, chosen = self.current(guard)
        nothing = (None, None, None)
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
        if chosen is not None:
            values = tuple(v[chosen] if getattr(v, "ndim", 0) else v for v in values)
        self.watch(access, space, lanes, place, store, values)
        if space == "shared":
            at = at + (place // self.threads) * self.stride
        elif space == "local":
            at = at + place * self.local_stride
        view, index = data.view(DTYPES[access.kind]), at // BYTES[access.kind]
        if single and space in ("global", "const") and not store and chosen is None:
            return view, int(index[0]), None
        return view, np.broadcast_to(index, place.shape), chosen

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
        good: np.ndarray | None = None
        outside = space in ("global", "const")

        def told(kind: str, wrong: np.ndarray, how: Callable[[str], str]) -> None:
            i = int(np.argmax(wrong))
            byte = int(at[i])
            what = self.arena.described(byte) if outside else f"byte {byte} of {space} memory"
            self.wrong(kind, access, place[i], how(what))

        if size > 1 and (np.bitwise_or.reduce(at) & (size - 1)):
            good = (at & (size - 1)) == 0
            told("misaligned", ~good, lambda what: f"accesses {size} bytes at {what}, no multiple of {size}")
        limit = self.shared_bytes if space == "shared" else self.local_bytes
        inside = None
        if outside:
            inside = self.arena.inside(at, size)
        elif at.min() < 0 or at.max() + size > limit:
            inside = (at >= 0) & (at + size <= limit)
        if inside is not None:
            verb = "writes" if access.store or access.atomic else "reads"
            has = "" if outside else f", which has {limit}"
            told("out_of_bounds", ~inside, lambda what: f"{verb} {what}{has}")
            good = inside if good is None else good & inside
        return good

    def wrong(self, kind: str, access: Access, place: np.int64, what: str) -> None:
        """Record what a lane does wrong."""
        self.counts.error(kind, access.line, f"line {access.line}: {self.named(int(place))} {what}")

    def matrix(self, at: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Addresses by warp: (warps, 32), -1 where a lane is off."""
        if self.whole and len(place) == len(self.place):
            return at.reshape(-1, WARP)
        warps = place >> 5
        new = np.diff(warps, prepend=-1) != 0
        rows = np.full((int(new.sum()), WARP), -1, np.int64)
        rows[np.cumsum(new) - 1, place & (WARP - 1)] = at
        return rows

    def watch(self, access: Access, space: str, at: Array, place: Array, store: bool, values: Any) -> None:
        """Count requests, sectors and wavefronts; look for races and for memory that nobody wrote."""
        if space in ("global", "shared"):
            self.counts.request(access, space, self.matrix(at, place))
        if space == "shared":
            base = at + (place // self.threads) * self.stride
            if store:
                for byte in range(access.size):
                    self.written[base + byte] = True
            elif not (self.written[base].all() and self.written[base + access.size - 1].all()):
                i = int(np.argmin(self.written[base]))
                what = f"reads byte {int(at[i])} of shared memory, which nobody has written"
                self.wrong("uninitialised_shared", access, place[i], what)
            self.race(self.shadow_shared, access, base, place, values)
        elif space == "global" and self.shadow_global is not None and access.index in self.program.watched:
            self.race(self.shadow_global, access, at, place, values)

    def race(self, shadow: Shadow | None, access: Access, at: Array, place: Array, values: Any) -> None:
        """Hold an access against the earlier ones to the same bytes, and note it."""
        if shadow is None:
            return
        stamps, granule = self.stamps(place), shadow.granule
        if self.order is not None and access.strong:
            near = shadow is self.shadow_shared  # a block's shared memory is nobody else's: below 0
            key = ~((at + self.first * self.stride) // granule) if near else at // granule
            self.order.meet(key, stamps, access)
        for part in range(0, max(access.size, granule), granule):
            where = (at + part) // granule
            if access.atomic or access.store:
                self.note_reads()
                value = same = None
                if access.store:
                    lane, size = part * access.lanes // access.size, BYTES[access.kind]
                    value = np.broadcast_to(values[min(lane, len(values) - 1)], where.shape)
                    memory = self.shared if shadow is self.shadow_shared else self.arena.data
                    held = memory.view(f"u{size}")[at // size + lane]
                    same = held == np.ascontiguousarray(value).view(held.dtype)
                shadow.write(where, stamps, access, value, same)
            else:
                shadow.check(shadow.writer, where, stamps, access, "read-write")
                if shadow is self.shadow_shared and self.order is None:
                    self.reads.append((where, stamps, access))
                    if len(self.reads) * len(where) > MOST_LOGGED:
                        self.note_reads()
                else:
                    shadow.read(where, stamps, access)

    def note_reads(self) -> None:
        """Note the reads of shared memory since the last barrier: only a write asks for them."""
        for some in self.reads if self.shadow_shared is not None else ():
            self.shadow_shared.read(*some)  # type: ignore[union-attr]
        self.reads.clear()

    def stamps(self, place: np.ndarray) -> np.ndarray:
        """Time and thread of each running lane; made once for all lanes while no barrier is passed."""
        everybody = self.rows is None and len(place) == len(self.place)
        if everybody and self.stamped is not None and len(self.stamped) == len(place):
            return self.stamped
        who = place + self.first * self.threads
        found = stamped(who, self.interval[place // self.threads], self.sub_interval[place >> 5])
        if everybody:
            self.stamped = found
        return found

    def fence(self, guard: Any, wide: bool) -> None:
        """Threads run a fence, of the whole GPU or of their block."""
        if self.order is not None:
            self.order.fence(self.stamps(self.current(guard)[0]), wide)

    def atomic(self, access: Access, address: Any, offset: int, guard: Any, *values: Any) -> Any:
        """Read, change and write, lane by lane in order; the values before."""
        running = self.running()
        out = np.zeros(running, DTYPES[access.kind])
        view, index, chosen = self.resolve(access, address, offset, guard, True)
        if index is None:
            return out
        some = slice(None) if chosen is None else chosen
        given = [np.broadcast_to(v, running)[some] for v in values]
        out[some] = changed(view, index, access.atomic, given)
        return out
