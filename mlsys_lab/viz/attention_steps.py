"""Attention by tiles, step by step: a running maximum, sum and mix per row, and the bytes that move.

Milakov and Gimelshein 2018 (online softmax); Dao et al. 2022 (FlashAttention, algorithm 1). Every array that
leaves or enters slow memory goes through a counter, here as in the plain way beside it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlsys_lab.viz.stepper import LETTER, LINE, Shape, Step, Stepper

CELL, HIGH, GAP = 54, 28, 20  # pixels: width of a score's cell, height of a row, space between parts

INTRO = (
    "Each row is a query, each column a key. A row carries the largest score so far (max), the sum of "
    "e^(score - max), and the mix: the same sum with each term times its value. A tile of keys brings them "
    "up to date: new sum = old sum * e^(old max - new max) + sum of e^(score - new max); the mix likewise, "
    "with values. Blue: worked on in this step, in fast memory. Green: moved in this step, and all bytes "
    "that tiles moved. Orange: the bytes with all pairs stored. Dashed: later than the query, hidden by the "
    "causal mask. Black (white on a dark page), at the end: compared with the plain way."
)

Change = dict[str, dict[str, Any]]


class Slow:
    """Slow memory that counts the bytes going in and out."""

    moved = 0

    def __call__(self, array: Any) -> Any:
        self.moved += array.nbytes
        return array


def plain(q: Any, k: Any, v: Any, slow: Slow) -> Any:
    """Causal attention of one head with scores and weights of all pairs stored: (n, d) each."""
    scores = slow(q) @ slow(k).T / np.sqrt(q.shape[1], dtype=q.dtype)
    scores = slow(np.where(np.tri(len(q), dtype=bool), scores, -np.inf).astype(q.dtype))
    weights = np.exp(slow(scores) - scores.max(1, keepdims=True))
    weights = slow(weights / weights.sum(1, keepdims=True))
    return slow(slow(weights) @ slow(v))


def attention_steps(q: Any, k: Any, v: Any, *, rows: int, columns: int) -> Stepper:
    """Causal attention of one small head, tile by tile; each tile is a step.

    Args:
        q: (n, d) array, n up to about 12; float32 at least.
        k: (n, d).
        v: (n, d).
        rows: queries per tile.
        columns: keys per tile.

    Returns:
        A stepper; its last step holds the result to that of the plain way.

    Raises:
        ValueError: the shapes differ, or a tile is empty.

    Example:
        >>> viz.attention_steps(q, k, v, rows=4, columns=2).save("tiles.html")  # doctest: +SKIP
    """
    q, k, v = (np.asarray(x, np.result_type(x, np.float32)) for x in (q, k, v))
    if not (q.ndim == 2 and q.shape == k.shape == v.shape and rows > 0 and columns > 0):
        raise ValueError(
            f"expected q, k, v of one shape (n, d) and tiles of at least 1, got {q.shape}, {k.shape}, "
            f"{v.shape}, tiles of {rows} and {columns}: take one head, such as q[0, 0]"
        )
    return Tiling(q, k, v, rows, columns).stepper()


class Tiling:
    """One run: computes, and writes down what each tile changes."""

    def __init__(self, q: Any, k: Any, v: Any, rows: int, columns: int) -> None:
        self.q, self.k, self.v, self.rows, self.columns = q, k, v, rows, columns
        self.n, self.slow, self.all, self.spared = len(q), Slow(), Slow(), 0
        self.expected = plain(q, k, v, self.all)
        self.out = np.empty_like(q)
        self.used: Change = {}  # what takes the last tile's scores away

    def stepper(self) -> Stepper:
        shapes, size = self.shapes()
        once, pairs = 4 * self.q.nbytes, 4 * self.n**2 * self.q.itemsize
        start = (
            f"q, k and v lie in slow memory: {self.n} positions, {self.q.shape[1]} wide, {self.q.dtype}. "
            f"With all pairs stored {once + pairs:,} B move: q, k, v and the result once, {once:,} B; "
            f"scores and weights, each written and read again, {pairs:,} B."
        )
        steps = [Step(start)]
        for i in range(0, self.n, self.rows):
            steps += self.tile_of_queries(i)
        apart = float(np.abs(self.out - self.expected).max())
        same = np.allclose(self.out, self.expected, rtol=1e-4, atol=1e-6)
        say = (
            f"{'The same result' if same else 'Another result'} as with all pairs stored; the largest "
            f"difference is {apart:.1g}. Tiles moved {self.slow.moved:,} B, all pairs {self.all.moved:,} B, "
            "although tiles read k and v again for each tile of queries."
        )
        if self.spared:
            say += f" {self.spared:,} B of what they save are keys and values hidden from a whole tile."
        change: Change = {f"row{r}": {"tone": "reference"} for r in range(self.n)}
        steps.append(Step(say, {**self.used, **change}))
        most = max(self.all.moved, self.slow.moved)
        shapes["all"] = replace(shapes["all"], level=self.all.moved / most)
        steps = [*steps[:1], *(told_against(most, step) for step in steps[1:-1]), steps[-1]]
        return Stepper("How tiles attend without all pairs", INTRO, shapes, steps, size)

    def tile_of_queries(self, i: int) -> list[Step]:
        """Load a tile of queries, fold in each tile of keys, store the result."""
        at = np.arange(i, min(i + self.rows, self.n))
        q = self.slow(self.q[at]) / np.sqrt(self.q.shape[1], dtype=self.q.dtype)
        top = np.full(len(at), -np.inf, q.dtype)
        total, mixed = np.zeros_like(top), np.zeros_like(q)
        say = f"{span('Query', 'Queries', at)} loaded. Nothing is seen yet: maximum -inf, sum 0, mix 0."
        steps = [self.step(say, self.state(at, top, total, mixed, "communication"))]
        for j in range(0, self.n, self.columns):
            keys = np.arange(j, min(j + self.columns, self.n))
            if keys[0] > at[-1]:
                self.spared += self.k[keys].nbytes + self.v[keys].nbytes
                say = f"{span('Key', 'Keys', keys)} later than every query of this tile: no load, no work."
                steps.append(self.step(say, self.cells(at, keys, None)))
                continue
            part = q @ self.slow(self.k[keys]).T
            part[at[:, None] < keys] = -np.inf
            new = np.maximum(top, part.max(1))
            scale, weights = np.exp(top - new), np.exp(part - new[:, None])
            rose = at[(new > top) & np.isfinite(top)]
            total = total * scale + weights.sum(1)
            mixed = mixed * scale[:, None] + weights @ self.slow(self.v[keys])
            top = new
            again = " again" if i else ""
            say = f"{span('Key and value', 'Keys and values', keys)} loaded{again}, their scores folded in. "
            if len(rose):
                names, by = ", ".join(f"q{r}" for r in rose), ", ".join(f"{scale[r - i]:.2g}" for r in rose)
                say += f"In {names} the maximum rises: sum and mix so far are scaled by {by}."
            else:
                say += (
                    "No maximum rises, so nothing is scaled."
                    if j
                    else "Nothing came before, nothing is scaled."
                )
            steps.append(self.step(say, self.cells(at, keys, part) | self.state(at, top, total, mixed)))
        self.out[at] = self.slow(mixed / total[:, None])
        done: Change = {
            f"row{r}": {"lines": (f"stored {numbers(self.out[r])}",), "tone": "communication"} for r in at
        }
        steps.append(self.step(f"{span('Query', 'Queries', at)} done: mix over sum is stored.", done))
        return steps

    def step(self, say: str, changes: Change) -> Step:
        """A step that takes the last one's scores and colours away and tells the bytes moved."""
        made = Step(say, {**self.used, **changes, "tiles": bar("tiles", self.slow.moved)})
        self.used = {}
        for key, change in changes.items():
            if change["tone"] == "compute" and key.startswith("cell"):
                self.used[key] = {"lines": ("done",), "tone": "plain"}
            elif change["tone"] != "idle":
                self.used[key] = {"tone": "plain"}
        return made

    def cells(self, at: Any, keys: Any, part: Any) -> Change:
        found: Change = {}
        for a, r in enumerate(at):
            for b, c in enumerate(keys):
                hidden = part is None or c > r
                text = "later" if hidden else f"{part[a, b]:.2f}"
                found[f"cell{r}-{c}"] = {"lines": (text,), "tone": "idle" if hidden else "compute"}
        return found

    def state(self, at: Any, top: Any, total: Any, mixed: Any, tone: str = "compute") -> Change:
        return {
            f"row{r}": {"lines": (f"max {m:.2f} sum {s:.2f} mix {numbers(x)}",), "tone": tone}
            for r, m, s, x in zip(at, top, total, mixed, strict=True)
        }

    def shapes(self) -> tuple[dict[str, Shape], tuple[float, float]]:
        n, left, top = self.n, GAP + 30, 3 * GAP + 4 * LINE
        beside = left + n * CELL + GAP
        wide = (28 + 7 * self.q.shape[1]) * LETTER
        full = beside + wide - GAP
        found = {
            "all": Shape("bytes", GAP, GAP / 2, full, 2 * LINE, tone="memory",
                         **bar("all pairs stored", self.all.moved)),
            "tiles": Shape("bytes", GAP, GAP + 2 * LINE, full, 2 * LINE, tone="communication",
                           **bar("tiles", 0)),
        }  # fmt: skip
        for r in range(n):
            y = top + r * HIGH
            found[f"q{r}"] = Shape("", GAP, y, 30, HIGH - 4, (f"q{r}",), "label")
            found[f"k{r}"] = Shape("", left + r * CELL, top - HIGH, CELL, HIGH, (f"k{r}",), "label")
            found[f"row{r}"] = Shape(f"q{r}", beside, y, wide, HIGH - 4)
            for c in range(n):
                name = f"score q{r} k{c}"
                found[f"cell{r}-{c}"] = Shape(name, left + c * CELL, y, CELL - 4, HIGH - 4)
        return found, (full + 2 * GAP, top + n * HIGH + GAP)


def bar(name: str, moved: int) -> dict[str, Any]:
    return {"lines": (f"{name}: {moved:,} B moved",), "level": float(moved)}


def told_against(most: int, step: Step) -> Step:
    """The step with its bar's bytes as a part of the most."""
    tiles = step.changes["tiles"]
    return Step(step.say, {**step.changes, "tiles": {**tiles, "level": tiles["level"] / most}})


def span(one: str, many: str, at: Any) -> str:
    return f"{one} {at[0]} is" if len(at) == 1 else f"{many} {at[0]} to {at[-1]} are"


def numbers(row: Any) -> str:
    return "[" + ", ".join(f"{x:.2f}" for x in row) + "]"
