"""Collectives: what is sent, against rings played out chunk by chunk, and a measured all-reduce."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsys_lab._core.hardware import device
from mlsys_lab.capacity.collectives import COLLECTIVES, collective_s, volume_bytes

ROOT = Path(__file__).resolve().parents[2]
MAIN = "import sys; sys.argv[0] = 'mlsys-lab'; from mlsys_lab.cli import main; main()"


def ring_reduce_scatter(data):
    """Each rank passes one chunk on per step and adds what it gets; the bytes that a rank sent."""
    p, sent = len(data), 0
    for step in range(p - 1):
        moving = [data[r][(r - step) % p].copy() for r in range(p)]
        for r in range(p):
            data[(r + 1) % p][(r - step) % p] += moving[r]
        sent += moving[0].nbytes
    return sent


def ring_all_gather(data, first):
    """Each rank passes on the chunk it got last; rank r starts with chunk r + first."""
    p, sent = len(data), 0
    for step in range(p - 1):
        moving = [data[r][(r + first - step) % p].copy() for r in range(p)]
        for r in range(p):
            data[(r + 1) % p][(r + first - step) % p] = moving[r]
        sent += moving[0].nbytes
    return sent


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_volumes_are_those_of_rings_that_were_played_out(ranks):
    chunks = np.random.default_rng(0).integers(0, 99, (ranks, ranks, 5)).astype(float)
    size, data = chunks[0].nbytes, chunks.copy()
    scattered = ring_reduce_scatter(data)
    gathered = ring_all_gather(data, 1)
    assert np.array_equal(data, np.broadcast_to(chunks.sum(axis=0), data.shape))
    assert volume_bytes("reduce_scatter", size, ranks) == scattered
    assert volume_bytes("all_gather", size, ranks) == gathered
    assert volume_bytes("all_reduce", size, ranks) == scattered + gathered
    assert volume_bytes("all_to_all", size, ranks) == sum(c.nbytes for c in chunks[0][1:])


def test_a_gigabyte_over_eight_ranks():
    """2 x 7/8 GB; an A100 sends 300 GB/s one way; over the network 25 GB/s."""
    found = {name: volume_bytes(name, 1e9, 8) for name in COLLECTIVES}
    assert found == {
        "all_reduce": 1_750_000_000, "all_gather": 875_000_000, "reduce_scatter": 875_000_000,
        "all_to_all": 875_000_000,
    }  # fmt: skip
    inside = collective_s("all_reduce", 1e9, 8, device("A100"))
    assert inside.low > 1.75e9 / 300e9
    across = collective_s("all_gather", 1e9, 16, device("A100"))
    assert across.mid / inside.mid == pytest.approx((15 / 16 / 25) / (1.75 / 300))


def test_the_measured_all_reduce_lies_in_its_interval():
    """64 MiB over four A100 took 0.603 ms (vidur's table)."""
    found = collective_s("all_reduce", 67_108_864, 4, device("A100"))
    assert found.mid == pytest.approx(0.603e-3)
    assert found.basis == "calibrated"
    assert collective_s("all_reduce", 67_108_864, 4, device("H100")).basis == "assumed"


@given(st.sampled_from(list(COLLECTIVES)), st.integers(1, 10**12), st.integers(1, 2000))
def test_more_bytes_or_ranks_never_send_less(name, size, ranks):
    sent = volume_bytes(name, size, ranks)
    assert sent <= volume_bytes(name, size + 1, ranks)
    assert sent <= volume_bytes(name, size, ranks + 1) < 2 * size


def test_the_command_has_bytes_and_seconds_of_each():
    arguments = ["network", "--size", "1GB", "--ranks", "8", "--gpu", "A100", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "estimate", *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert set(found) == {f"{name}_{what}" for name in COLLECTIVES for what in ("bytes", "s")}
    assert found["all_reduce_bytes"] == 1_750_000_000
    assert found["all_reduce_s"]["mid"] == pytest.approx(2 * found["all_gather_s"]["mid"])
