"""A figure's words say what is drawn: made from the artists, not from what the author meant."""

from __future__ import annotations

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex

from mlsys_lab.viz import PALETTE, bound, prediction, show, text_of


@pytest.fixture
def axes():
    figure, drawn = plt.subplots()
    yield drawn
    plt.close(figure)


def test_bars_are_named_with_their_values(axes):
    axes.bar(["saved", "clean"], [22.6, 12345.6])
    axes.set(ylabel="memory (GB)")
    axes.set_title("Two runs", loc="left")
    assert text_of(axes.figure) == "Two runs. y: memory (GB). Bars: saved 22.6, clean 12,346."


def test_lines_say_where_they_start_and_end_and_bounds_where_they_lie(axes):
    axes.plot([1, 2, 3], [10, 5, 0.25], label="model")
    axes.plot([1, 2], [3, 4])
    bound(axes, 24, "24 GB")
    prediction(axes, 2, 7)
    line, marks = 'Line "model": 3 points from (1, 10) to (3, 0.25).', 'Point "your prediction": (2, 7).'
    assert text_of(axes.figure) == f'{line} Bound "24 GB": 24. {marks}'


def test_many_bars_are_counted_and_not_all_read_out(axes):
    axes.barh([str(i) for i in range(20)], list(range(20)))
    assert text_of(axes.figure).endswith("11 11, and 8 more.")


def test_no_prediction_draws_nothing_and_one_is_hollow(axes):
    prediction(axes, 1, None)
    assert not axes.get_lines()
    prediction(axes, 1, 2)
    (marker,) = axes.get_lines()
    assert marker.get_markerfacecolor() == "none"
    assert to_hex(marker.get_color()).upper() == PALETTE["yours"]


def test_outside_a_notebook_the_words_are_printed_and_the_figure_is_closed(axes, capsys):
    axes.set_title("Seen", loc="left")
    show(axes.figure)
    assert capsys.readouterr().out == "Seen.\n"
    assert not plt.fignum_exists(axes.figure.number)
