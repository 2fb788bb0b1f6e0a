"""Data to train on, and the loader that cuts it into batches.

Everything is an array of NumPy; whatever is random takes a Generator.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from mlsys_lab.pedestrians import pedestrians as pedestrians
from mlsys_lab.pedestrians import side_by_side as side_by_side


class DataLoader:
    """Batches of arrays that belong together, one epoch per iteration.

    Args:
        arrays: of equal length: inputs, targets, and so on.
        batch_size: examples per batch.
        shuffle: a new order in each epoch.
        drop_last: leave out a last batch that is smaller.
        generator: where the orders are drawn from.

    Raises:
        ValueError: no arrays, or lengths that differ.

    Example:
        >>> [x.tolist() for (x,) in DataLoader(np.arange(5), batch_size=2)]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        *arrays: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.arrays = tuple(np.asarray(a) for a in arrays)
        lengths = sorted({len(a) for a in self.arrays})
        if len(lengths) != 1:
            raise ValueError(f"a loader expects arrays of one length, got {lengths}: cut or pair them first")
        if batch_size < 1:
            raise ValueError(f"batch_size expects at least 1, got {batch_size}: a batch has an example")
        self.size, self.batch_size, self.shuffle, self.drop_last = lengths[0], batch_size, shuffle, drop_last
        self.generator = np.random.default_rng() if generator is None else generator
        self.position = 0  # batches of this epoch that were handed out
        self.seed = 0  # of this epoch's order
        self.resumed = False

    def __len__(self) -> int:
        """Batches per epoch."""
        return self.size // self.batch_size if self.drop_last else -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        """A new epoch, or the rest of one that was resumed."""
        if not self.resumed:
            self.position, self.seed = 0, int(self.generator.integers(2**63))
        self.resumed = False
        order = np.arange(self.size)
        if self.shuffle:
            order = np.random.default_rng(self.seed).permutation(self.size)
        while self.position < len(self):
            first = self.position * self.batch_size
            chosen = order[first : first + self.batch_size]
            self.position += 1
            yield tuple(a[chosen] for a in self.arrays)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: enough to go on with the next batch in another process."""
        state = copy.deepcopy(self.generator.bit_generator.state)
        return {"position": self.position, "seed": self.seed, "generator": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another loader over the same arrays stood."""
        self.position, self.seed = state_dict["position"], state_dict["seed"]
        self.generator.bit_generator.state = copy.deepcopy(state_dict["generator"])
        self.resumed = 0 < self.position < len(self)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits (E. Alpaydin and C. Kaynak, UCI 1998), from scikit-learn.

    Returns:
        Images (1797, 1, 8, 8) float32 in [0, 1], and classes (1797,) int64.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images[:, None] / 16).astype(np.float32), data.target.astype(np.int64)


def spirals(
    points: int, classes: int = 3, *, noise: float = 0.2, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Arms of a spiral, one per class, which no straight line separates.

    Returns:
        Points (points, 2) float32 and classes (points,) int64.
    """
    label = np.arange(points) % classes
    radius = np.linspace(0.05, 1, points)
    angle = 2 * np.pi * label / classes + 4 * radius + noise * generator.normal(size=points)
    return np.stack([radius * np.sin(angle), radius * np.cos(angle)], 1).astype(np.float32), label


def windows(
    tokens: np.ndarray, length: int, count: int, *, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Stretches of a long sequence, and the same one token later, to predict.

    Returns:
        (count, length) inputs and (count, length) targets.
    """
    starts = generator.integers(0, len(tokens) - length, count)
    places = starts[:, None] + np.arange(length)
    return tokens[places], tokens[places + 1]


def python_docs() -> str:
    """About 465,000 characters of English on Python, which every Python carries (`pydoc_data.topics`).

    The text changes with Python's patch version, so nothing may depend on its exact length or letters.

    Returns:
        The topics in the order of their names, ASCII only.
    """
    from pydoc_data import topics

    text = "\n".join(topics.topics[name] for name in sorted(topics.topics))
    return text.encode("ascii", "ignore").decode("ascii")
