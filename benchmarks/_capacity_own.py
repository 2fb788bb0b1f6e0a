"""Steps of the course's own GPT on this machine: predicted as torch's of the same sizes, then run.

The prediction knows torch's single operations alone, and the engine's fused ones are others: it needs half
the predicted time where a step is large. So the rows are told and not judged. CPU time of the whole process.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch
from _capacity_machine import GPT, ROUNDS, step, tokens

from mlsys_lab import nn, optim
from mlsys_lab.capacity.machine import Machine
from mlsys_lab.capacity.predict import step_seconds

SIZES = {
    "own GPT, 3 layers of 96, 6 x 80 tokens": (96, 3, 4, 700, 80, 6),
    "own GPT, 4 layers of 192, 4 x 160 tokens": (192, 4, 6, 1500, 160, 4),
}


def own_steps(machine: Machine) -> list[dict[str, Any]]:
    """As `steps` of the torch networks."""
    rows = []
    for case, (width, depth, heads, vocabulary, context, batch) in SIZES.items():
        twin = GPT(width, depth, heads, vocabulary, context)
        given = tokens(vocabulary, batch, context)
        ours = step_seconds(twin, given, torch.optim.AdamW(twin.parameters()), machine, step=step)
        took = [_seconds(width, depth, heads, vocabulary, context, batch) for _ in range(ROUNDS)]
        ratios = sorted(ours / t for t in took)
        middle = statistics.median(ratios)
        rows.append(
            {
                "case": case, "peer_name": "the step, run", "ours": ours, "peer": statistics.median(took),
                "ratio_median": middle, "ratio_min": ratios[0], "ratio_max": ratios[-1], "unit": "CPU s",
                "runs": ROUNDS, "bar": None, "pass": None,
            }
        )  # fmt: skip
    return rows


def _seconds(width: int, depth: int, heads: int, vocabulary: int, context: int, batch: int) -> float:
    """CPU seconds of one step: the median of some, after the first."""
    sizes = nn.GPTConfig(
        vocab_size=vocabulary,
        block_size=context,
        n_layer=depth,
        n_head=heads,
        n_embd=width,
        tie_weights=False,
    )
    model = nn.GPT(sizes)
    optimizer = optim.AdamW(model.parameters())
    draw = np.random.default_rng(0)
    given, targets = (draw.integers(0, vocabulary, (batch, context)) for _ in range(2))
    taken = []
    for _ in range(12):
        before = time.process_time()
        loss = nn.functional.cross_entropy(model(given).reshape(-1, vocabulary), targets.reshape(-1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        taken.append(time.process_time() - before)
    return statistics.median(taken[2:])
