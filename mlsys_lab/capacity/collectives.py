"""What collectives move and how long it takes: ring and pairwise algorithms, which move the least possible.

Volumes after Thakur, Rabenseifner and Gropp 2005 ("Optimization of Collective Communication Operations in
MPICH"): what each rank sends, and receives as much. Latency is left out: it counts for small sizes alone.
"""

from __future__ import annotations

from fractions import Fraction

from mlsys_lab._core.hardware import Device
from mlsys_lab.capacity.inference import NODE
from mlsys_lab.capacity.interval import Interval
from mlsys_lab.capacity.op_time import link_efficiency
from mlsys_lab.capacity.runs import generation
from mlsys_lab.capacity.step_time import NETWORK_BYTES_PER_S

#: How often a rank sends its share (p - 1) / p of the whole tensor.
COLLECTIVES = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1, "all_to_all": 1}


def volume_bytes(collective: str, size: float, ranks: int) -> float:
    """Bytes that each rank sends.

    Args:
        collective: one of COLLECTIVES.
        size: bytes of the whole tensor: the gradient that is reduced, the weights that are gathered, what a
            rank hands out to all.
        ranks: that take part.

    Raises:
        ValueError: another collective, no bytes, no ranks.
    """
    if collective not in COLLECTIVES:
        raise ValueError(f"collective is one of {', '.join(COLLECTIVES)}, got {collective!r}")
    if not 0 < size < float("inf"):
        raise ValueError(f"size has to be above 0 bytes, got {size:g}")
    if isinstance(ranks, bool) or not isinstance(ranks, int) or ranks < 1:
        raise ValueError(f"ranks has to be a whole number of at least 1, got {ranks!r}")
    moved = Fraction(COLLECTIVES[collective] * (ranks - 1), ranks) * Fraction(size)
    return int(moved) if moved.denominator == 1 else float(moved)


def way_bytes_per_s(on: Device, ranks: int) -> float:
    """One way, per rank: the GPU's own link within a node, its network adapter beyond."""
    if ranks > NODE:
        return NETWORK_BYTES_PER_S
    if not on.link_bytes_per_s:
        raise ValueError(f"no link is written down for {on.name}: choose another device")
    return on.link_bytes_per_s / 2


def collective_s(collective: str, size: float, ranks: int, on: Device) -> Interval:
    """Seconds of one collective. The share of the link that it reaches was measured with all-reduces on A100
    in a node; for the rest it is assumed."""
    sent = volume_bytes(collective, size, ranks)
    if not sent:
        return Interval.exact(0.0)
    share = link_efficiency()
    if collective != "all_reduce" or generation(on) != "A100" or ranks > NODE:
        share = share * Interval(1, 1, 1, "assumed", ("as an all-reduce of A100 in a node",))
    return sent / way_bytes_per_s(on, ranks) / share
