"""What recomputing would save, held against really checkpointing the module: traced again, and run."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from mlsys_lab.capacity import trace  # noqa: E402
from tests.capacity.test_trace import GPT, loss_step, mlp, real_peak, sum_step, tokens  # noqa: E402

WITHIN = 1e-4


class Checkpointed(nn.Module):
    """A module whose activations are dropped and computed again."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False, preserve_rng_state=False)


def gpt(*recomputed):
    model = GPT(depth=2)
    for i, block in enumerate(model.blocks):
        if i in recomputed:
            model.blocks[i] = Checkpointed(block)
    return model


def net(*recomputed):
    """Its middle part holds most."""
    one, two = (nn.Sequential(nn.Linear(256, 2048), nn.GELU(), nn.Linear(2048, 256)) for _ in "12")
    parts = [nn.Linear(256, 256), one, two, nn.Linear(256, 10)]
    return nn.Sequential(*(Checkpointed(p) if i in recomputed else p for i, p in enumerate(parts)))


CASES = {
    "gpt, one block": (gpt, tokens, loss_step, "blocks.1", (1,)),
    "gpt, all blocks": (gpt, tokens, loss_step, "blocks.*", (0, 1)),
    "mlp, one part": (net, lambda: torch.randn(2048, 256), sum_step, "1", (1,)),
    "mlp, another part": (net, lambda: torch.randn(2048, 256), sum_step, "2", (2,)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_row_is_the_peak_of_the_module_that_is_really_checkpointed(case, tmp_path):
    build, data, step, row, recomputed = CASES[case]
    torch.manual_seed(0)
    plain, inputs = build(), data()
    found = trace(plain, inputs, torch.optim.AdamW(plain.parameters()), step=step).savings(most=4)[row]
    really = build(*recomputed)
    optimizer = torch.optim.AdamW(really.parameters())
    traced = trace(really, inputs, optimizer, step=step).peak_bytes
    assert found.peak_bytes == pytest.approx(traced, rel=WITHIN)
    assert found.peak_bytes == pytest.approx(
        real_peak(really, inputs, optimizer, step, tmp_path / "trace.json"), rel=WITHIN
    )
    assert found.saved_bytes > 0


def test_the_rows_say_what_is_saved_of_the_peak_now_the_most_first():
    model = GPT(depth=2)
    traced = trace(model, tokens(), torch.optim.AdamW(model.parameters()), step=loss_step)
    table = traced.savings(most=6)
    assert table.peak_bytes == traced.peak_bytes
    assert [r.saved_bytes for r in table] == sorted((r.saved_bytes for r in table), reverse=True)
    assert all(r.saved_bytes == traced.peak_bytes - r.peak_bytes for r in table)
    assert len(table.rows) == 6
    assert "blocks" not in {r.module for r in table}, "a list has no forward to be run again"
    held = sum(s.bytes for s in traced.live_at_peak() if s.part == "activations" and "blocks.0" in s.module)
    assert table["blocks.0"].held_bytes == held
    assert str(table).splitlines()[0].startswith("peak now ")


def test_in_a_notebook_trace_and_savings_are_drawn_with_their_numbers():
    model = GPT(depth=2)
    traced = trace(model, tokens(), torch.optim.AdamW(model.parameters()), step=loss_step)
    tree = ElementTree.fromstring(traced._repr_html_())
    picture = next(tree.iter("svg"))
    for part, size in traced.parts_at_peak().items():
        assert f"{part} {size / 1e6:.4g} MB" in picture.get("aria-label") or size < 1e6
    heights = [float(y) for path in tree.iter("path") if path.get("fill") for y in
               re.findall(r"[\d.]+ ([\d.]+)", path.get("d"))]  # fmt: skip
    assert min(heights) == 0, "the peak reaches the top"
    rows = [["".join(c.itertext()) for c in row] for row in ElementTree.fromstring(
        traced.savings(most=3)._repr_html_()).iter("tr")]  # fmt: skip
    assert len(rows) == 4
    assert rows[1][0] == "blocks.*"
    assert not re.search(r"(src|href)=|<script", traced._repr_html_())


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda t: t.savings(most=0), ValueError, "at least one row, got 0"),
        (lambda t: t.savings()["wings"], KeyError, "'wings' has no row: there are "),
    ],
)
def test_what_is_wrong_is_said(call, error, said):
    with pytest.raises(error, match=said):
        call(trace(mlp(), torch.randn(64, 256)))


def test_where_the_optimiser_makes_the_peak_recomputing_saves_nothing():
    model = mlp()
    table = trace(model, torch.randn(8, 256), torch.optim.Adam(model.parameters(), foreach=True)).savings()
    assert [r.saved_bytes for r in table] == [0]
