"""The pictures of the engine: the graph's words against the tape and torch, boxes that do not overlap."""

from __future__ import annotations

import itertools
import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

import mlsys_lab.autograd as ag
from mlsys_lab import viz


@pytest.fixture(autouse=True)
def close_figures():
    with matplotlib.rc_context():
        viz.style()
        yield
    plt.close("all")


def leaf(*shape: int, seed: int = 0) -> ag.Tensor:
    return ag.Tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32), requires_grad=True)


def boxes(figure) -> list[str]:
    return [t.get_text() for t in figure.axes[0].texts if t.get_gid() == "said"]


def attention_block() -> tuple[ag.Tensor, dict[str, ag.Tensor]]:
    names = {
        "x": leaf(4, 16, 32),
        **{n: leaf(32, 32, seed=i) for i, n in enumerate(("wq", "wk", "wv", "wo"), 1)},
    }
    x, wq, wk, wv, wo = names.values()
    weights = ag.softmax((x @ wq) @ ag.matrix_transpose(x @ wk) * 32**-0.5, axis=-1)
    return ag.mean(ag.square(x + weights @ (x @ wv) @ wo)), names


def wide(n: int) -> ag.Tensor:
    return sum((ag.exp(leaf(123456, seed=i)) for i in range(1, n)), ag.exp(leaf(123456))).sum()


def deep(n: int) -> ag.Tensor:
    x = leaf(3, 3)
    for _ in range(n):
        x = ag.tanh(x)
    return x.sum()


def test_a_box_says_operation_arguments_shape_dtype_bytes_and_sizes_as_torch_has_them():
    torch = pytest.importorskip("torch")
    x, w = leaf(4, 5), leaf(5, 3, seed=1)
    figure = viz.graph(ag.sum(ag.tanh(x @ w)), names={"x": x, "w": w})
    tx, tw = (torch.tensor(t.numpy(), requires_grad=True) for t in (x, w))
    h = tx @ tw
    t = torch.tanh(h)
    h.retain_grad()
    t.sum().backward()

    def rms(a) -> str:
        return f"{float(a.detach().double().square().mean().sqrt()):.3g}"

    assert boxes(figure) == [
        f"#1 w\n(5, 3) float32, 60 B\nrms: value {rms(tw)}, grad {rms(tw.grad)}",
        f"#2 x\n(4, 5) float32, 80 B\nrms: value {rms(tx)}, grad {rms(tx.grad)}",
        f"#3 matmul(#2, #1)\n(4, 3) float32, 48 B\nkeeps 140 B for backward\nrms: grad {rms(h.grad)}",
        f"#4 tanh(#3)\n(4, 3) float32, 48 B\nkeeps 48 B for backward\nrms: value {rms(t)}, grad 1",
        f"#5 sum(#4)\n() float32, 4 B\nrms: value {rms(t.sum())}, grad 1",
    ]
    assert x.grad is None
    assert w.grad is None


def test_drawing_leaves_the_tape_so_that_backward_still_runs():
    loss, names = attention_block()
    viz.graph(loss)
    loss.backward()
    assert all(t.grad is not None for t in names.values())


def test_the_words_are_those_of_the_boxes_and_name_each_edge():
    loss, names = attention_block()
    figure = viz.graph(loss, names=names)
    said = viz.text_of(figure)
    assert all(box.replace("\n", "; ") in said for box in boxes(figure))
    argument_count = sum(len(re.findall(r"#\d+", box)) - 1 for box in boxes(figure))
    assert len(figure.axes[0].get_lines()) == argument_count == 19


@pytest.mark.parametrize("make", [lambda: attention_block()[0], lambda: wide(10), lambda: deep(28)])
def test_up_to_thirty_boxes_do_not_overlap_and_stay_in_the_picture(make):
    figure = viz.graph(make())
    figure.canvas.draw()
    frames = [t.get_bbox_patch().get_window_extent() for t in figure.axes[0].texts if t.get_gid() == "said"]
    assert len(frames) <= 30
    for a, b in itertools.combinations(frames, 2):
        assert not a.overlaps(b)
    width, height = figure.canvas.get_width_height()
    for f in [*frames, figure.axes[0]._left_title.get_window_extent()]:
        assert f.x0 >= 0
        assert f.y0 >= 0
        assert f.x1 <= width
        assert f.y1 <= height


def test_no_arrow_points_up():
    figure = viz.graph(attention_block()[0])
    for line in figure.axes[0].get_lines():
        assert (np.diff(line.get_ydata()) > 0).all()  # y grows downward
    assert figure.axes[0].get_ylim()[0] > figure.axes[0].get_ylim()[1]


def test_beyond_thirty_boxes_the_nearest_are_drawn_and_the_title_says_how_to_narrow():
    figure = viz.graph(deep(40))
    assert len(boxes(figure)) == 30
    assert boxes(figure)[-1].startswith("#42 sum(#41)")
    assert "30 of 42 boxes" in viz.text_of(figure)
    assert "most=42" in viz.text_of(figure)
    assert len(boxes(viz.graph(deep(40), most=42))) == 42


def test_a_result_that_is_not_one_number_is_drawn_without_gradients():
    figure = viz.graph(ag.exp(leaf(3)))
    assert "value" in viz.text_of(figure)
    assert "grad" not in viz.text_of(figure)


def test_a_freed_tape_says_how_to_keep_it():
    loss = ag.sum(ag.exp(leaf(3)))
    loss.backward()
    with pytest.raises(ag.GraphError, match="retain_graph"):
        viz.graph(loss)


def test_the_memory_timeline_draws_the_bytes_of_each_operation_and_names_the_peak():
    x = leaf(100, 25)
    with viz.profile() as p:
        ag.sum(ag.tanh(ag.exp(x))).backward()
    figure = viz.memory_timeline(p)
    line = figure.axes[0].get_lines()[0]
    np.testing.assert_allclose(line.get_ydata(orig=True), [10, 20, 20, 20, 20, 10], rtol=1e-12)
    figure.canvas.draw()
    assert figure.axes[0]._left_title.get_window_extent().x1 <= figure.canvas.get_width_height()[0]
    said = viz.text_of(figure)
    assert "\n" not in said
    assert "holds at most 20 kB for backward, after operation 2: tanh (forward)." in said
    assert 'Line "saved for backward": 6 points' in said


def test_a_profile_without_operations_says_so():
    with viz.profile() as p:
        pass
    with pytest.raises(ValueError, match="run the model inside"):
        viz.memory_timeline(p)
