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


def test_a_bound_is_named_once_where_it_lies_and_not_in_the_legend_too(axes):
    axes.plot([1, 2], [3, 4], label="model")
    bound(axes, 24, "24 GB")
    assert [text.get_text() for text in axes.legend().get_texts()] == ["model"]
    assert [text.get_text() for text in axes.texts] == ["24 GB"]


def test_the_name_of_a_prediction_stands_on_a_ground_that_hides_the_curve(axes):
    prediction(axes, 2, 7)
    (name,) = axes.texts
    assert name.get_bbox_patch().get_facecolor() == axes.get_facecolor()
    axes.plot([1, 3], [7, 7])
    assert name.get_zorder() > axes.get_lines()[-1].get_zorder()


def test_bars_beside_a_tick_have_its_name_and_each_row_of_bars_its_own(axes):
    axes.barh([0.2, 1.2], [5, 6], 0.36, label="before")
    axes.barh([-0.2, 0.8], [3, 4], 0.36, label="after")
    axes.set(yticks=[0, 1], yticklabels=["small", "large"])
    assert text_of(axes.figure) == 'Bars "before": small 5, large 6. Bars "after": small 3, large 4.'


def test_a_tick_that_counts_is_no_name_for_the_bars_beside_it(axes):
    axes.bar([0, 1, 2, 3], [9, 8, 7, 6])
    axes.set(xlim=(-30, 30))
    assert text_of(axes.figure) == "Bars: 0 9, 1 8, 2 7, 3 6."
    axes.set(xticks=[0, 10])
    assert text_of(axes.figure) == "Bars: 0 9, 1 8, 2 7, 3 6."


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


def test_a_prediction_of_a_place_alone_is_a_line_there(axes):
    prediction(axes, None)
    assert not axes.get_lines()
    prediction(axes, 0.25)
    assert text_of(axes.figure) == 'Line "your prediction": at x 0.25.'


def test_outside_a_notebook_the_words_are_printed_and_the_figure_is_closed(axes, capsys):
    axes.set_title("Seen", loc="left")
    show(axes.figure)
    assert capsys.readouterr().out == "Seen.\n"
    assert not plt.fignum_exists(axes.figure.number)


def test_bars_that_stand_on_one_are_told_by_where_they_end(axes):
    axes.barh(["too low", "too high"], [-0.875, 3], left=1)
    assert text_of(axes.figure) == "Bars: too low 0.125, too high 4."
