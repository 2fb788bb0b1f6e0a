"""What the figures of capacity draw is what was measured and traced."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")
torch = pytest.importorskip("torch")
import matplotlib.pyplot as plt  # noqa: E402
from torch import nn  # noqa: E402

from mlsys_lab.capacity.machine import Machine  # noqa: E402
from mlsys_lab.capacity.tracing import trace  # noqa: E402
from mlsys_lab.viz.plots import text_of  # noqa: E402
from mlsys_lab.viz.roof import roofline, step_memory  # noqa: E402


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_the_roof_is_the_smaller_of_the_peak_and_what_the_memory_brings():
    machine = Machine("made by hand", "2026-01-01", {"float32": 100e9}, {"L2": 50e9, "memory": 10e9})
    figure = roofline(machine, [("product", 40.0, 80e9), ("sum", 0.25, 2e9)])
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    x, y = lines["roof from memory, 10 GB/s"].get_data()
    assert np.allclose(y, np.minimum(x * 10, 100))
    assert "from 10.0 FLOP/byte on" in text_of(figure)
    assert 'Point "sum": (0.25, 2)' in text_of(figure)


def test_the_layers_of_a_step_sum_to_its_timeline_at_every_moment():
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 10))
    traced = trace(model, torch.empty(32, 64), torch.optim.AdamW(model.parameters()))
    figure = step_memory(traced)
    axes = figure.axes[0]
    top = axes.collections[-1].get_paths()[0].vertices
    peak = max(traced.timeline)
    assert top[:, 1].max() * 1e3 == pytest.approx(peak, rel=1e-6), "kB are drawn"
    assert f"{peak / 1e3:.4g} kB at its peak" in text_of(figure)
