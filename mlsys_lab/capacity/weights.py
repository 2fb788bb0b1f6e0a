"""The list of a model's weights: part, name, shape, how often. Parameters and FLOPs are sums over this one
list.

A count that is a sum over written-down shapes can be held against a framework's own list, tensor by tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Weight:
    """One tensor, or `copies` of the same shape.

    Attributes:
        part: what it belongs to: "embedding", "attention", "mlp", "experts", "router", "norm", "head", ...
        name: its name in the part.
        shape: outputs first where it is a matrix.
        copies: how many of it the model stores (layers, experts); 0 for a tied one, which is stored
            elsewhere.
        used: how many of it one token passes through (with 8 experts of which 2 answer: layers x 2); None:
            all copies.
        multiplies: a matrix with which each position is multiplied: 2 FLOPs per element and position.
        positions: positions that it multiplies; None for every token of the batch.
        shard: how tensor parallelism holds it: "" on every rank, "tp" split, "kv" split over the key-value
            heads at most, "expert" split over expert parallelism as well.
    """

    part: str
    name: str
    shape: tuple[int, ...]
    copies: int = 1
    used: int | None = None
    multiplies: bool = False
    positions: int | None = None
    shard: str = ""

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def stored(self) -> int:
        """Numbers stored, all copies together."""
        return self.size * self.copies

    @property
    def active(self) -> int:
        """Numbers that one token passes through."""
        return self.size * min(self.copies, self.copies if self.used is None else self.used)

    @property
    def multiplied(self) -> int:
        """Multiply-adds per position."""
        return self.size * (self.copies if self.used is None else self.used) if self.multiplies else 0


def by_part(weights: Iterable[Weight]) -> dict[str, int]:
    """Parameters of each part, in the order of first appearance; their sum is the model's count."""
    parts: dict[str, int] = {}
    for weight in weights:
        if weight.stored:
            parts[weight.part] = parts.get(weight.part, 0) + weight.stored
    return parts
