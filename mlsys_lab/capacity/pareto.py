"""Choosing among candidates that are good at different things: the Pareto set, the cheapest within limits,
and, where nothing fits, which limit is to blame.

A candidate is out of the Pareto set when another one is at least as good in everything and better in
something (Pareto 1906). A limit is binding when dropping it, and it alone, would leave a candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

#: Of these more is better; of everything else less.
MORE_IS_BETTER = frozenset({"accuracy"})

Values = Mapping[str, float]


def pareto(points: Sequence[Sequence[float]] | np.ndarray) -> list[int]:
    """The indices of the points that no other one dominates, in order.

    Args:
        points: (n, d), of every column less is better. Equal points do not dominate each other.

    Raises:
        ValueError: not a table, or a value that is no number.
    """
    p = np.asarray(points, dtype=float)
    if p.size == 0:
        return []
    if p.ndim != 2:
        raise ValueError(f"expected points (n, d), got shape {p.shape}: one row per candidate")
    if np.isnan(p).any():
        raise ValueError("a point holds a value that is not a number")
    return [i for i, q in enumerate(p) if not ((p <= q).all(1) & (p < q).any(1)).any()]


def pareto_set(candidates: Sequence[Values], columns: Sequence[str]) -> list[int]:
    """The Pareto set of candidates by some of their values; of accuracy more is better.

    >>> pareto_set([{"accuracy": 0.9, "s": 2}, {"accuracy": 0.8, "s": 1}, {"accuracy": 0.7, "s": 3}],
    ...            ["accuracy", "s"])
    [0, 1]
    """
    return pareto([[-c[k] if k in MORE_IS_BETTER else c[k] for k in columns] for c in candidates])


def meets(candidate: Values, name: str, limit: float) -> bool:
    """Does a candidate keep one limit?"""
    value = candidate[name]
    return value >= limit if name in MORE_IS_BETTER else value <= limit


@dataclass(frozen=True)
class Relaxed:
    """Limits that stand in the way together.

    Attributes:
        names: dropping all of them, and no fewer, leaves a candidate.
        nearest: the index of the candidate that is then the least far beyond them.
        needed: what each of these limits would have to be for that candidate.
    """

    names: tuple[str, ...]
    nearest: int
    needed: Values


@dataclass(frozen=True)
class Choice:
    """What limits leave.

    Attributes:
        feasible: the indices that keep all limits.
        cheapest: the one among them that costs least, or None.
        binding: where nothing is feasible the smallest sets of limits to blame, the least costly to relax
            first; otherwise each limit that alone keeps a cheaper candidate out, with the cheapest such one.
    """

    feasible: tuple[int, ...]
    cheapest: int | None
    binding: tuple[Relaxed, ...]


def choose(candidates: Sequence[Values], limits: Values, *, cost: str = "cost_usd") -> Choice:
    """The cheapest candidate within limits, or the limits that leave none.

    Args:
        candidates: each with every value that a limit or `cost` names.
        limits: name to the least accuracy, or to the most of anything else.
        cost: by which value candidates compare. Ties go to the more accurate one, then to the one that is
            less in the next values, so that no dominated one is chosen, then to the first.

    Raises:
        ValueError: no candidates, or a limit on something that they do not have.
    """
    if not candidates:
        raise ValueError("there is no candidate to choose from")
    for name in (*limits, cost):
        if any(name not in c for c in candidates):
            raise ValueError(f"not every candidate has {name!r}: it has {', '.join(candidates[0])}")
    keeps = {n: np.array([meets(c, n, limit) for c in candidates]) for n, limit in limits.items()}
    price = np.array([c[cost] for c in candidates])

    def left(dropped: tuple[str, ...]) -> np.ndarray:
        rest = [mask for name, mask in keeps.items() if name not in dropped]
        return np.flatnonzero(np.logical_and.reduce(rest)) if rest else np.arange(len(candidates))

    feasible = left(())
    if len(feasible):
        best = int(min(feasible, key=lambda i: _price_then_all(candidates[i], cost)))
        cheaper = []
        for name in limits:
            others = [i for i in left((name,)) if price[i] < price[best]]
            if others:
                nearest = int(min(others, key=lambda i: price[i]))
                cheaper.append(Relaxed((name,), nearest, {name: candidates[nearest][name]}))
        return Choice(tuple(map(int, feasible)), best, tuple(cheaper))
    for size in range(1, len(limits) + 1):
        found = [
            _relaxed(names, left(names), candidates, limits)
            for names in combinations(limits, size)
            if len(left(names))
        ]
        if found:
            found.sort(key=lambda r: _beyond(r.needed, limits))
            return Choice((), None, tuple(found))
    raise AssertionError("without any limit every candidate is left")


def _price_then_all(candidate: Values, cost: str) -> tuple[float, ...]:
    """What of two candidates the better one has less of: the cost first, then accuracy, then the rest."""
    more = tuple(-candidate[k] for k in sorted(candidate) if k in MORE_IS_BETTER)
    less = tuple(candidate[k] for k in sorted(candidate) if k not in MORE_IS_BETTER and k != cost)
    return (candidate[cost], *more, *less)


def _beyond(values: Values, limits: Values) -> list[float]:
    """By what shares of their limits these values miss them, the worst first."""
    return sorted((_miss(values[n], limits[n]) for n in values), reverse=True)


def _miss(value: float, limit: float) -> float:
    return abs(value - limit) / abs(limit) if limit else float("inf") if value != limit else 0.0


def _relaxed(
    names: tuple[str, ...], left: np.ndarray, candidates: Sequence[Values], limits: Values
) -> Relaxed:
    def needed(i: int) -> Values:
        return {n: candidates[i][n] for n in names if not meets(candidates[i], n, limits[n])}

    nearest = int(min(left, key=lambda i: _beyond(needed(int(i)), limits)))
    return Relaxed(names, nearest, needed(nearest))
