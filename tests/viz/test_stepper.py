"""Steppers: what they draw and tell, held to torch, closed forms and the profiler; pages need nothing."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pytest

import mlsys_lab.autograd as ag
from mlsys_lab import viz
from mlsys_lab.viz.demos import DEMOS
from tests.conftest import need_front_end

ROOT = Path(__file__).resolve().parents[2]
demos = pytest.mark.parametrize("name", sorted(DEMOS))


@pytest.fixture(autouse=True)
def front_end(request: pytest.FixtureRequest) -> None:
    """The demo of a warp compiles kernels."""
    call = getattr(request.node, "callspec", None)
    if call is not None and "warp" in str(call.params.get("name", call.params.get("program"))):
        need_front_end()


def line(shape: viz.Shape, start: str) -> str:
    """What a box says after a word."""
    return next(t.removeprefix(start) for t in shape.lines if t.startswith(start))


def numbers(text: str) -> np.ndarray:
    return np.array([float(x) for x in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?|-?inf", text)])


def by_name(state: dict[str, viz.Shape]) -> dict[str, viz.Shape]:
    return {shape.name: shape for shape in state.values()}


def some(*shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


# Backward


def reused(ops, x, w, b):
    """x is used twice, b is broadcast; `ops` is torch or the engine."""
    z = x @ w + b
    h = ops.tanh(z)
    return z, h, (h * x).sum()


def test_every_value_and_gradient_that_backward_draws_is_torchs():
    torch = pytest.importorskip("torch")
    given = dict(zip("xwb", some((2, 2), (2, 2), (2,)), strict=True))
    last = by_name(viz.backward_steps(lambda **k: reused(ag, **k)[-1], **given).states[-1])
    leaves = {name: torch.tensor(value, requires_grad=True) for name, value in given.items()}
    z, h, out = reused(torch, **leaves)
    for t in (z, h, out):
        t.retain_grad()
    out.backward()
    boxes = {"#1 x": leaves["x"], "#2 w": leaves["w"], "#3 b": leaves["b"]}
    for box, theirs in (boxes | {"#5 add": z, "#6 tanh": h, "#8 sum": out}).items():
        value, grad = (numbers(line(last[box], word)) for word in ("value ", "grad "))
        np.testing.assert_allclose(value, theirs.detach().numpy().ravel(), rtol=6e-3)
        np.testing.assert_allclose(grad, theirs.grad.numpy().ravel(), rtol=6e-3)


def test_a_leaf_that_is_used_twice_has_one_paths_gradient_and_then_the_sum():
    stepper = viz.backward_steps(lambda x: (x * x * x).sum(), x=np.float32([2.0, 3.0]))
    seen = [line(state["1"], "grad ") for state in stepper.states]
    seen = list(dict.fromkeys(seen))
    # x * x is (4, 9): the outer product gives x * x first; the inner one gives x * x twice.
    assert seen == ["-", "so far [4, 9]", "so far [12, 27]", "[12, 27]"]  # 3 x^2
    assert any("added to what it had" in step.say for step in stepper.steps)


def test_a_broadcast_arguments_gradient_is_told_as_summed_to_its_shape():
    x, b = some((3, 2), (2,))
    steps = viz.backward_steps(lambda x, b: (x + b).sum(), x=x, b=b).steps
    assert [("b, summed to its shape" in s.say) for s in steps].count(True) == 1
    assert not any("x, summed" in s.say for s in steps)


@pytest.mark.parametrize("seed", range(3))
def test_the_bytes_that_the_tape_holds_are_those_that_the_profiler_counts(seed):
    given = dict(zip("xwb", some((2, 2), (2, 2), (2,), seed=seed), strict=True))
    function = lambda **k: ag.exp(reused(ag, **k)[-1]) * 2.0  # noqa: E731
    stepper = viz.backward_steps(function, **given)
    leaves = {name: ag.Tensor(value, requires_grad=True) for name, value in given.items()}
    with viz.profile() as profile:
        function(**leaves).backward()
    forward = [e.live_bytes for e in profile.events if e.phase == "forward"]
    told = [numbers(state["tape"].lines[0])[0] for state in stepper.states]
    assert told[1 : len(forward) + 1] == forward
    assert max(forward) > 0
    assert told[-1] == 0
    falling = told[len(forward) :]
    assert falling == sorted(falling, reverse=True)


def test_a_node_keeps_what_its_rule_reads_and_lets_it_go_when_backward_has_passed():
    (x,) = some((2, 3))
    states = viz.backward_steps(lambda x: ag.tanh(x).sum(), x=x).states
    sizes = [state["2"].lines[1] for state in states]
    assert sizes[1] == "(2, 3) float32, 24 B, keeps 24 B"  # tanh's rule reads its result
    assert sizes[-1] == "(2, 3) float32, 24 B"


def test_memory_that_two_nodes_keep_is_told_as_the_same_on_the_way_there_and_back():
    x, y = some((2, 3), (2, 3))
    told = [s.say for s in viz.backward_steps(lambda x, y: (ag.tanh(x) * y).sum(), x=x, y=y).steps]
    kept = [s for s in told if "the same 24 B as #3" in s]  # multiply reads what tanh reads: its result
    assert [s.startswith("Forward: #4 multiply") for s in kept] == [True]
    assert sum("#3 still holds them" in s for s in told) == 1
    apart = viz.backward_steps(lambda x, y: (ag.tanh(x) + ag.tanh(y)).sum(), x=x, y=y).steps
    assert not any("the same" in s.say or "still holds" in s.say for s in apart)


def test_a_line_past_several_layers_is_straight_between_its_ends():
    given = dict(zip("xwb", some((2, 2), (2, 2), (2,)), strict=True))
    stepper = viz.backward_steps(lambda x, w, b: (ag.tanh(x @ w + b) * x).sum(), **given)
    path = stepper.shapes["1-7"].path  # x, past four layers, to its second use
    assert len(path) > 4
    assert len({x for x, _ in path[:-1]}) == 1
    boxes = [s for s in stepper.shapes.values() if s.name.startswith("#") and s.name != "#1 x"]
    assert all(not s.x < path[0][0] < s.x + s.w for s in boxes), "no box in its way"


def test_the_bytes_fall_as_backward_passes_each_node():
    (x,) = some((2, 3))
    states = viz.backward_steps(lambda x: ag.exp(ag.tanh(x)).sum(), x=x).states
    told = [numbers(state["tape"].lines[0])[0] for state in states]
    # Nothing, tanh, exp, sum; then sum, exp, tanh, the leaf: the rules of tanh and exp read their results.
    assert told == [0, 24, 48, 48, 48, 24, 0, 0]


def test_stepping_leaves_the_given_arrays_alone_and_needs_one_number():
    (x,) = some((2, 3))
    before = x.copy()
    viz.backward_steps(lambda x: ag.square(x).sum(), x=x)
    np.testing.assert_array_equal(x, before)
    with pytest.raises(ag.GraphError, match="one number"):
        viz.backward_steps(lambda x: ag.square(x), x=x)


# The stepper itself


def test_a_step_that_changes_what_is_not_there_is_refused():
    with pytest.raises(ValueError, match="ghost"):
        viz.Stepper("t", "i", {}, [viz.Step("s", {"ghost": {"tone": "idle"}})], (10, 10))
    with pytest.raises(ValueError, match="no step"):
        viz.Stepper("t", "i", {}, [], (10, 10))


@demos
def test_the_transcript_tells_every_text_that_is_drawn(name):
    stepper = DEMOS[name]()
    told = " ".join(stepper.transcript)
    for step, state in zip(stepper.steps, stepper.states, strict=True):
        assert step.say in told
        for shape in state.values():
            assert all(text in told for text in shape.lines if shape.name)


@demos
def test_a_page_holds_deltas_that_lead_from_the_first_state_to_the_last(name):
    stepper = DEMOS[name]()
    page = stepper.page()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    state = data["start"]
    for step in data["steps"]:
        for key, change in step["changes"].items():
            state[key] = state[key] | change
    for key, shape in stepper.states[-1].items():
        assert (tuple(state[key]["lines"]), state[key]["tone"]) == (shape.lines, shape.tone)
    sizes = [len(s["changes"]) for s in data["steps"]]
    assert sum(sizes) < len(sizes) * len(stepper.shapes) / 2, "what changes, not a frame each"
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")


def test_what_a_stepper_says_cannot_become_markup():
    bad = "</script><img src=x onerror=alert(1)>{{title}}"
    shape = viz.Shape(bad, w=10, h=10, lines=(bad,))
    steps = [viz.Step(bad), viz.Step(bad, {"a": {"lines": (bad,)}})]
    stepper = viz.Stepper(bad, bad, {"a": shape}, steps, (2000, 1000))
    for html in (stepper.page(), stepper._repr_html_()):
        assert "<img src=x" not in html
    assert "<img src=x" not in unescape(re.search(r'srcdoc="([^"]*)"', stepper._repr_html_())[1])


@demos
def test_the_strip_of_pictures_is_a_png_and_leaves_no_figure_open(name, tmp_path):
    import matplotlib.pyplot as plt

    stepper = DEMOS[name]()
    before = plt.get_fignums()
    stepper.filmstrip(tmp_path / "strip.png")
    image = plt.imread(tmp_path / "strip.png")
    assert image.shape[1] >= 1400
    assert image.std() > 0.01
    assert plt.get_fignums() == before
    one = io.BytesIO()
    viz.Stepper("t", "i", stepper.shapes, stepper.steps[:1], stepper.size).filmstrip(one)
    assert one.getvalue().startswith(b"\x89PNG")


@demos
def test_a_notebook_without_scripts_still_has_the_pictures_and_every_word(name):
    stepper = DEMOS[name]()
    html = re.sub(r"<iframe.*?</iframe>", "", stepper._repr_html_(), flags=re.S)
    assert 'src="data:image/png;base64,' in html
    assert [unescape(x) for x in re.findall(r"<li>(.*?)</li>", html)] == stepper.transcript


# The command


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    code = "from mlsys_lab.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "demo", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_command_lists_the_demos_and_names_them_where_a_name_is_wrong(tmp_path):
    listed = command(folder=tmp_path)
    assert listed.returncode == 0
    assert [row.split()[0] for row in listed.stdout.splitlines()] == list(DEMOS)
    wrong = command("autogard", folder=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr.strip().count("\n") == 0
    assert all(name in wrong.stderr for name in ("autogard", *DEMOS))
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_the_page_where_it_says_and_pictures_where_asked(tmp_path):
    done = command("autograd", "--no-browser", folder=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, f"written: {Path('demos/autograd.html')}")
    assert (tmp_path / "demos" / "autograd.html").read_text("utf-8") == DEMOS["autograd"]().page()
    done = command("attention", "--no-browser", "--out", "a b.png", folder=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "a b.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_refuses_a_place_that_it_cannot_write_or_draw(tmp_path):
    (tmp_path / "file").write_text("")
    for out in ("file/x.html", "x.pdf"):
        done = command("autograd", "--no-browser", "--out", out, folder=tmp_path)
        assert done.returncode == 2
        assert done.stderr.strip().count("\n") == 0
        assert "--out" in done.stderr


@pytest.mark.parametrize("program", sorted(p.name for p in (ROOT / "labs" / "demos").glob("*.py")))
def test_each_demo_is_also_a_program_to_change(program, tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "labs" / "demos" / program), "out.html"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "<svg" in (tmp_path / "out.html").read_text("utf-8")
