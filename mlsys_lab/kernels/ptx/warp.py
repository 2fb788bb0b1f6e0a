"""What the lanes of a warp do together: votes, matches, reductions; and votes of a block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.lanes import WARP, Lanes

REDUCE: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "add": (np.add, lambda d: 0),
    "and": (np.bitwise_and, lambda d: ~d.type(0)),
    "or": (np.bitwise_or, lambda d: 0),
    "xor": (np.bitwise_xor, lambda d: 0),
    "min": (np.minimum, lambda d: np.iinfo(d).max),
    "max": (np.maximum, lambda d: np.iinfo(d).min),
}


BARRIERS = 16  # that a block has, by number


class Warp(Lanes):
    """See the module."""

    told: np.ndarray  # by barrier of each block: threads that came, and for how many it is true
    outcome: np.ndarray
    stamps: Callable[[np.ndarray], np.ndarray]

    def by_warp(self, values: Any, place: np.ndarray, fill: Any) -> np.ndarray:
        """Values at the places of the chunk's lanes."""
        whole = np.full(self.blocks * self.threads, fill, values.dtype)
        whole[place] = values
        return whole

    def masks(self, place: np.ndarray, holds: np.ndarray) -> np.ndarray:
        """Per running lane, the bits of its warp's lanes for which something holds."""
        mine = np.where(holds, np.uint64(1) << (place & (WARP - 1)).astype(np.uint64), np.uint64(0))
        sums = self.by_warp(mine, place, 0).reshape(-1, WARP).sum(axis=1)
        return sums[place >> 5].astype(np.uint32)

    def active_mask(self) -> Any:
        place, _ = self.current()
        return self.masks(place, np.ones(place.shape, bool))

    def vote(self, way: str, holds: Any) -> Any:
        place, _ = self.current()
        holds = np.broadcast_to(holds, place.shape)
        here, yes = self.active_mask(), self.masks(place, holds)
        return {
            "all": lambda: yes == here, "any": lambda: yes != 0, "ballot": lambda: yes,
            "uni": lambda: (yes == here) | (yes == 0),
        }[way]()  # fmt: skip

    def reduce(self, way: str, value: Any) -> Any:
        place, _ = self.current()
        value = np.broadcast_to(value, place.shape)
        function, fill = REDUCE[way]
        whole = self.by_warp(value, place, fill(value.dtype)).reshape(-1, WARP)
        return function.reduce(whole, axis=1, dtype=value.dtype)[place >> 5]

    def match(self, way: str, value: Any) -> tuple[Any, Any]:
        place, _ = self.current()
        value = np.broadcast_to(value, place.shape)
        lit = self.by_warp(np.ones(place.shape, bool), place, False).reshape(-1, WARP)
        rows = self.by_warp(value, place, 0).reshape(-1, WARP)
        mine = (rows[place >> 5] == value[:, None]) & lit[place >> 5]
        powers = np.uint64(1) << np.arange(WARP, dtype=np.uint64)
        found = (mine * powers).sum(axis=1).astype(np.uint32)
        if way == "any":
            return found, np.ones(place.shape, bool)
        same = found == self.active_mask()
        return np.where(same, found, np.uint32(0)), same

    def sync_warp(self, guard: Any, mask: Any) -> None:
        """Lanes wait for those of their warp that a mask names; what these did comes before what they do."""
        place, chosen = self.current(guard)
        named = np.broadcast_to(mask, self.running())[slice(None) if chosen is None else chosen]
        there = np.minimum(self.size - (place % self.threads & -WARP), WARP).astype(np.uint64)
        whole = (~named & ((np.uint64(1) << there) - np.uint64(1))) == 0
        warps = np.unique(place[whole] >> 5)
        if self.order is not None:
            self.order.share((warps * WARP + self.first * self.threads).tolist(), WARP)
            some = np.flatnonzero(~whole & ((named >> (place & (WARP - 1)).astype(np.uint32)) & 1 == 1))
            groups = np.unique((place[some] >> 5 << 32) | named[some], return_inverse=True)[1]
            for i in range(int(groups.max(initial=-1)) + 1):
                self.order.meet_up(self.stamps(place[some[groups == i]]))
        self.sub_interval[warps] += 1
        self.stamped = None

    def tell(self, barrier: int, holds: Any) -> None:
        """Threads bring a truth to a barrier of their block."""
        place, _ = self.current()
        key = place // self.threads * BARRIERS + barrier
        self.told[0] += np.bincount(key, minlength=self.told.shape[1])
        self.told[1] += np.bincount(key[np.broadcast_to(holds, key.shape)], minlength=self.told.shape[1])

    def opened(self, keys: np.ndarray) -> None:
        """Barriers open: what was told there holds until they open again."""
        self.outcome[:, keys] = self.told[:, keys]
        self.told[:, keys] = 0

    def hear(self, way: str, barrier: int) -> Any:
        """How many threads told a truth at a barrier that opened, or whether any or all did."""
        came, true = self.outcome[:, self.current()[0] // self.threads * BARRIERS + barrier]
        return {"popc": true.astype(np.uint32), "or": true > 0, "and": true == came}[way]
