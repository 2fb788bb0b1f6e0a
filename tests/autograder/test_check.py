"""check() in the learner's process: one line when right, what differs when wrong, and never an exception."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from autograder import check as module
from autograder.assignment import Limits, load_assignment
from autograder.check import check, skip, solved
from autograder.compare import Mismatch, close
from autograder.errors import StudentError
from autograder.feedback import described, drawn
from autograder.local import LocalSession


@pytest.fixture(autouse=True)
def _in_the_toy_course(toy, monkeypatch):
    monkeypatch.setenv("MLSYS_LAB_COURSE", str(toy.parents[1]))


def double(x):
    return x + x


def test_one_line_when_right(capsys):
    assert check("toy.q1", double)
    said = capsys.readouterr().out
    assert said == "toy.q1: correct so far, 1 public test, 6 of 9 points; hidden tests decide on the rest\n"
    assert solved("toy.q1")


def test_runs_public_tests_only(capsys):
    assert check("toy.q1", lambda x: x.astype(np.float64) * 2)  # the hidden test asks for float32
    assert "1 public test" in capsys.readouterr().out


def test_says_what_differs_and_where_and_names_the_hint(capsys):
    assert not check("toy.q1", lambda x: x * 3)
    said = capsys.readouterr().out
    assert "0 of 1 tests pass" in said
    assert "12 of 12 values differ" in said
    assert "expected:" in said
    assert "yours:" in said
    assert "most off at [" in said
    assert "hint 1" in said
    assert not solved("toy.q1")


def not_written(x):
    raise NotImplementedError("write me")


def raises(x):
    return {}["missing"]


def leaves(x):
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("question", "function", "said"),
    [
        ("toy.q1", not_written, "toy.q1: not solved yet"),
        ("toy.q1", raises, "KeyError: 'missing'"),
        ("toy.q1", leaves, "SystemExit: 0"),
        ("toy.q1", None, "`double` was not passed to check"),
        ("toy.q1", 5, "double is a value of type int, not a function"),
        ("toy.q9", double, "cannot be checked: no test of toy belongs to 'q9'"),
        ("nothing.q1", double, "cannot be checked"),
        ("toy", double, "name a question as 'hw1.q1a'"),
    ],
)
def test_never_raises_and_says_why(question, function, said, capsys):
    assert not check(question, function)
    assert said in capsys.readouterr().out


def test_an_input_changed_in_place_does_not_change_the_test(capsys):
    def in_place(x):
        x *= 2
        return x

    assert check("toy.q1", in_place)


SECOND = """
@pytest.mark.question("q1")
@pytest.mark.points(1)
def test_once_more(student):
    student.double(1)
"""


def _hasty(folder):
    return replace(load_assignment(folder), limits=Limits(call_s=0.2))


@pytest.mark.parametrize("swallowed", [Exception, BaseException])
def test_a_loop_without_end_is_ended_and_said(swallowed, capsys, monkeypatch):
    monkeypatch.setattr("autograder.check.load_assignment", _hasty)
    kept = []

    def loops(x):
        while True:
            try:
                while True:
                    pass
            except swallowed as error:
                kept.append(error)
                if len(kept) > 2:
                    raise

    assert not check("toy.q1", loops)
    assert "Timeout: no answer within 0.2 s" in capsys.readouterr().out
    assert len(kept) == (3 if swallowed is BaseException else 0)


def test_a_question_that_ran_out_of_time_is_not_run_again(toy, tmp_path, capsys, monkeypatch):
    shutil.copytree(toy, tmp_path / "assignments" / "toy")
    monkeypatch.setenv("MLSYS_LAB_COURSE", str(tmp_path))
    with (tmp_path / "assignments" / "toy" / "tests" / "public" / "test_toy.py").open("a") as file:
        file.write(SECOND)
    called = []

    def loops(x):
        called.append(1)
        while True:
            pass

    monkeypatch.setattr("autograder.check.load_assignment", _hasty)
    assert not check("toy.q1", loops)
    said = capsys.readouterr().out
    assert len(called) == 1
    assert "0 of 2 tests pass" in said
    assert "Timeout: no answer within 0.2 s" in said
    assert "Not run after it: 1." in said


def test_an_interrupted_check_prints_one_line(capsys):
    def interrupted(x):
        raise KeyboardInterrupt

    assert not check("toy.q1", interrupted)
    assert "stopped before it finished" in capsys.readouterr().out


def test_the_reference_itself_does_not_pass(capsys):
    def double(x):
        return x + x

    assert check("toy.q1", double)
    double.__reference__ = True  # as `skip` gives them out
    assert not check("toy.q1", double)
    assert "this is the reference, which earns no points" in capsys.readouterr().out
    assert not solved("toy.q1")


def test_a_homework_cannot_be_skipped(capsys):
    assert skip("toy.q1") is None
    assert "only labs can be skipped" in capsys.readouterr().out


def _mismatch(actual, expected):
    with pytest.raises(Mismatch) as caught:
        close(actual, expected)
    return caught.value


@pytest.mark.parametrize("shape", [(5,), (4, 6)])
def test_the_drawing_has_its_words_as_alternative_text(shape):
    expected = np.arange(np.prod(shape), dtype=float).reshape(shape)
    actual = expected.copy()
    actual.flat[3] += 2.0
    mismatch = _mismatch(actual, expected)
    picture = drawn(mismatch)
    assert picture is not None
    assert "data:image/png;base64,iVBOR" in picture
    for line in described(mismatch):
        assert line.replace("'", "&#x27;") in picture
    assert any("most off at [" in line and "expected 3, yours 5" in line for line in described(mismatch))


def test_values_that_print_alike_are_shown_with_the_digits_that_tell_them_apart():
    said = described(_mismatch((0.3, 0.96891242171), (0.3, 0.96891242211)))
    assert said[-1] == "most off at [1]: expected 0.96891242211, yours 0.96891242171"
    assert described(_mismatch([1, 2], [1, 3]))[-1] == "most off at [1]: expected 3, yours 2"
    assert "expected 12345678, yours 12345679" in described(_mismatch([12345679], [12345678]))[-1]


@pytest.mark.parametrize("shape", [(2, 3), (1, 4), (4, 1), (3, 3), (7,), (40,)])
def test_no_tick_of_a_drawing_lies_between_two_elements(shape, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    drawn(_mismatch(np.zeros(shape), np.ones(shape)))
    for axes in figures[0].axes:
        if axes.get_label() != "<colorbar>":
            kept = [axes.xaxis] if len(shape) == 1 else [axes.xaxis, axes.yaxis]
            assert all(float(t).is_integer() for axis in kept for t in axis.get_ticklocs())
    assert [a.get_title() for a in figures[0].axes if "ours -" in a.get_title()] == ["Yours - expected"]


def test_no_drawing_where_there_is_nothing_to_draw():
    assert drawn(_mismatch(1.0, 2.0)) is None
    assert drawn(_mismatch("a", "b")) is None
    assert drawn(_mismatch(np.zeros(3), np.zeros(4))) is None


def test_what_was_solved_is_forgotten_when_it_fails_later(capsys):
    check("toy.q1", double)
    check("toy.q1", raises)
    assert module.solved("toy.q1") is False


def test_an_error_names_the_call_that_raised(capsys):
    assert not check("toy.q1", raises)
    assert "KeyError: 'missing'" in (said := " ".join(capsys.readouterr().out.split()))
    assert "in double(array(" in said


def test_a_long_argument_of_the_call_hides_no_other():
    def named(a):
        return a

    def run(nodes, fetches, feeds, *, bias):
        return {}["missing"]

    table = {f"name {i}": (named, [f"name {i + 1}"]) for i in range(30)}
    with pytest.raises(StudentError) as caught:
        LocalSession({}, run).student("q1", False).run(table, ["last"], {"a": np.zeros(9)}, bias=0.5)
    said = caught.value.public()
    assert "run({'name 0': (named, ['name 1'])" in said
    assert said.endswith("..., ['last'], {'a': array(9,) float64}, bias=0.5)")


def test_what_the_function_prints_is_shown_below_and_capped(capsys):
    def talks(x):
        print("x is", x.dtype)
        return x + x

    def babbles(x):
        print("line\n" * 100)
        return x

    assert check("toy.q1", talks)
    assert capsys.readouterr().out.splitlines()[1:] == ["your code printed:", "  x is float64"]
    assert not check("toy.q1", babbles)
    assert capsys.readouterr().out.endswith("  ... and 88 lines more\n")


def test_a_question_without_hidden_tests_is_simply_correct(capsys, monkeypatch):
    monkeypatch.setattr(
        "autograder.check.load_assignment", lambda f: replace(load_assignment(f), questions={})
    )
    assert check("toy.q1", double)
    assert capsys.readouterr().out == "toy.q1: correct, 1 test, 6 points\n"


def test_a_row_of_whole_numbers_says_where_it_first_goes_wrong():
    with pytest.raises(Mismatch) as caught:
        close(np.array([1, 9, 3, 90]), np.array([1, 2, 3, 4]))
    said = described(caught.value)
    assert "first off at [1]: expected 2, yours 9" in said
    assert "most off at [3]: expected 4, yours 90" in said


@pytest.mark.parametrize(
    ("mine", "wanted", "said"),
    [
        ([], [0, 2], "expected 2 items, got 0"),
        ([1, None], [0, 2], "item 1 is None, not a number"),
        ([[1], [1, 2]], [[1, 2], [3, 4]], "expected shape (2, 2), got rows of different lengths"),
        (np.array(["a"]), [1], "expected numbers, got an array of dtype <U1"),
        ({}, [1], "expected an array, got a value of type dict"),
    ],
)
def test_what_is_no_numbers_is_told_by_what_is_wrong_with_it(mine, wanted, said):
    with pytest.raises(AssertionError) as error:
        close(mine, wanted)
    assert said in str(error.value)


def test_one_function_of_a_question_does_not_stand_for_another(capsys):
    def mean(x):
        return x.mean()

    assert not check("toy.q1", mean)  # q1 asks for `double`; `mean` is what q2 asks for
    assert "`double` was not passed to check" in capsys.readouterr().out
