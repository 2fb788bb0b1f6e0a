"""Calls of printf within a kernel: text and values, found in the memories of the lane that says it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from mlsys_lab.kernels.ptx.machine import Machine
from mlsys_lab.kernels.ptx.memory import GLOBAL, LOCAL, SHARED, WINDOW

MOST_SAID, MOST_TEXT = 256, 4096  # bytes of the values of a printf, and of a text


class Speaking(Machine):
    """The machine, which can speak."""

    def printf(self, text: Any, values: Any, guard: Any) -> None:
        """The text at an address with its values in local memory; lanes in order."""
        place, chosen = self.current(guard)
        some = slice(None) if chosen is None else chosen
        texts, at = (np.broadcast_to(v, self.running())[some].tolist() for v in (text, values))
        for lane, form, address in zip(place.tolist(), texts, at, strict=True):
            base = lane * self.local_stride + address % WINDOW
            told = partial(self.text_at, lane)
            self.counts.say(told(form), self.local[base : base + MOST_SAID].tobytes(), told)

    def text_at(self, lane: int, address: int) -> str:
        """The text that a lane finds at a generic address, as far as the next zero."""
        own, block = lane * self.local_stride, lane // self.threads * self.stride
        local, shared = self.local[own : own + self.local_stride], self.shared[block : block + self.stride]
        for base, data in ((GLOBAL, self.arena.data), (LOCAL, local), (SHARED, shared)):
            if 0 <= (start := address - base) < len(data):
                return bytes(data[start : start + MOST_TEXT]).split(b"\0")[0].decode("utf-8", "replace")
        return f"(no text at {address:#x})"
