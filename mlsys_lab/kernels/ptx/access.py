"""Loads, stores and atomic operations of the running lanes: found, checked, counted, watched for races."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.atomics import changed
from mlsys_lab.kernels.ptx.code import Access
from mlsys_lab.kernels.ptx.lanes import WARP
from mlsys_lab.kernels.ptx.memory import GLOBAL, LOCAL, SHARED, WINDOW
from mlsys_lab.kernels.ptx.races import Shadow
from mlsys_lab.kernels.ptx.warp import Warp

TYPES: dict[str, Any] = {
    "u8": np.uint8,
    "s8": np.int8,
    "u16": np.uint16,
    "s16": np.int16,
    "u32": np.uint32,
    "s32": np.int32,
    "u64": np.uint64,
    "s64": np.int64,
    "f32": np.float32,
    "f64": np.float64,
    "f16": np.float16,
    "b8": np.uint8,
    "b16": np.uint16,
    "b32": np.uint32,
    "b64": np.uint64,
    "bf16": np.uint16,
    "f16x2": np.uint32,
    "bf16x2": np.uint32,
}


class Memory(Warp):
    """See the module."""

    def load(self, access: Access, address: Any, offset: int, guard: Any) -> tuple[Any, ...]:
        """Values at addresses, one array per part of a vector; zero for lanes that the guard holds back."""
        data, index, _place, chosen, same = self.resolve(access, address, offset, guard, False)
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
        data, index, _place, chosen, _ = self.resolve(access, address, offset, guard, True, values)
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
        good: np.ndarray | None = None
        outside = space in ("global", "const")

        def told(kind: str, wrong: np.ndarray, how: Callable[[str], str]) -> None:
            i = int(np.argmax(wrong))
            byte = int(at[i])
            what = self.arena.described(byte) if outside else f"byte {byte} of {space} memory"
            self.error(kind, access.line, f"line {access.line}: {self.named(int(place[i]))} {how(what)}")

        if size > 1 and (np.bitwise_or.reduce(at) & (size - 1)):
            good = (at & (size - 1)) == 0
            told("misaligned", ~good, lambda what: f"accesses {size} bytes at {what}, no multiple of {size}")
        limit = self.shared_bytes if space == "shared" else self.local_bytes
        inside: np.ndarray | None
        if outside:
            inside = self.arena.inside(at, size)
        else:
            inside = None if at.min() >= 0 and at.max() + size <= limit else (at >= 0) & (at + size <= limit)
        if inside is not None:
            verb = "writes" if access.store or access.atomic else "reads"
            has = "" if outside else f", which has {limit}"
            told("out_of_bounds", ~inside, lambda what: f"{verb} {what}{has}")
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
                for byte in range(access.size):
                    self.written[base + byte] = True
            elif not (self.written[base].all() and self.written[base + access.size - 1].all()):
                i = int(np.argmin(self.written[base]))
                who, byte = self.named(int(place[i])), int(at[i])
                what = (
                    f"line {access.line}: {who} reads byte {byte} of shared memory, which nobody has written"
                )
                self.error("uninitialised_shared", access.line, what)
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
        if self.order is not None and shadow is self.shadow_global and (access.atomic or access.acquires):
            who = place + self.first * self.threads
            self.order.meet(at // self.fine, who, bool(access.atomic))
            if access.acquires:
                return  # reading what others write is what it is for
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
                shadow.write(
                    where, stamps, access.line, np.broadcast_to(value, where.shape) if fits else None
                )
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
        data, index, _place, chosen, _ = self.resolve(access, address, offset, guard, True)
        if index is None:
            return out
        view = data.view(dtype)
        given = [np.broadcast_to(v, running) for v in values]
        if chosen is not None:
            given = [g[chosen] for g in given]
        before = changed(view, index, access.atomic, given)
        out[slice(None) if chosen is None else chosen] = before
        return out
