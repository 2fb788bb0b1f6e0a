"""Compiled functions against eager, torch, and the interpreter of the representation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlsys_lab.autograd as ag
from mlsys_lab._core import native
from mlsys_lab.autograd import fused_rows
from mlsys_lab.compile import CaptureError, Graph, bytes_moved, compile, interpret

torch = pytest.importorskip("torch")
RTOL, ATOL = 2e-5, 2e-6  # float32: sums are added in another order, exp, erf and tanh round differently
UNARY = ("tanh", "exp", "sin", "square", "abs", "negative", "sigmoid", "relu", "erf")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum")
SHAPES = ((3, 4), (4,), (1, 4), (3, 1), (), (2, 3, 4))


@pytest.fixture(params=["C", "NumPy"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With and without a compiler."""
    if request.param == "NumPy":
        monkeypatch.setenv(native.OFF, "1")
    elif native.compiler() is None:
        pytest.skip("no C compiler: install gcc or clang")
    return str(request.param)


def tensors(seed: int, *shapes: tuple[int, ...], dtype: str = "float32") -> list[ag.Tensor]:
    rng = np.random.default_rng(seed)
    return [ag.Tensor(rng.normal(size=s).astype(dtype), requires_grad=True) for s in shapes]


def same(ours: Any, theirs: Any, rtol: float = RTOL, atol: float = ATOL) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol * max(1, np.abs(theirs).max(initial=0)))


@st.composite
def programs(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """A random graph: (operation, first, second argument), numbers counted back from the newest value."""
    kinds = st.sampled_from(
        (*UNARY, *BINARY, "sum", "mean", "max", "normalised", "matmul", "by number", "where")
    )
    return draw(st.lists(st.tuples(kinds, st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=9))


def apply(xp: Any, program: list[tuple[str, int, int]], values: list[Any]) -> Any:
    """Run a program with our functions or torch's; what does not fit together is left out."""
    values = list(values)
    for op, i, j in program:
        x, y = values[-1 - i % len(values)], values[-1 - j % len(values)]
        try:
            np.broadcast_shapes(tuple(x.shape), tuple(y.shape))
        except ValueError:
            y = x
        axis = j % len(x.shape) if len(x.shape) else None
        if op == "by number":
            out = 1.5 - (x * 0.5 + 2.0) / 3.0
        elif op in UNARY:
            x = xp.tanh(x) if op == "exp" else x
            out = getattr(xp, op)(x)
        elif op == "divide":
            out = xp.divide(x, y * y + 1.0)
        elif op == "where":
            out = xp.where(x > y, x * 2.0, y)
        elif op in BINARY:
            out = getattr(xp, op)(x, y)
        elif axis is None:
            continue
        elif op == "normalised":
            centred = x - xp.mean(x, axis=axis, keepdims=True)
            out = centred / xp.sqrt(xp.mean(centred * centred, axis=axis, keepdims=True) + 0.1)
        elif op == "matmul":
            if len(x.shape) < 2:
                continue
            out = xp.matmul(x, x.mT)
        else:
            out = xp.amax(x, axis=axis) if op == "max" and xp is torch else getattr(xp, op)(x, axis=axis)
        values.append(xp.tanh(out * 0.3) * 2.0 if op in ("matmul", "square", "sum") else out)
    return values[-1]


def loss_and_grad(program: list[tuple[str, int, int]]) -> Callable[..., Any]:
    def step(*xs: Any) -> Any:
        loss = ag.sum(apply(ag, program, list(xs)) * 0.7)
        return (loss, *ag.grad(loss, xs, allow_unused=True)) if loss.requires_grad else (loss,)

    return step


@settings(max_examples=20)
@given(programs(), st.integers(0, 1000), st.sampled_from(["float32", "float64"]))
def test_random_programs_and_their_gradients_equal_torch(program: Any, seed: int, dtype: str) -> None:
    xs = tensors(seed, *SHAPES[seed % 3 : seed % 3 + 3], dtype=dtype)
    ours = compile(loss_and_grad(program))(*xs)
    theirs = [torch.tensor(x.numpy(), requires_grad=True) for x in xs]
    out = apply(torch, program, theirs)
    (loss := (out * 0.7).sum()).backward()
    same(ours[0].numpy(), loss.detach().numpy(), 1e-4, 1e-5)
    for x, g in zip(theirs, ours[1:], strict=True):
        expected = np.zeros(tuple(x.shape), dtype) if x.grad is None else x.grad.numpy()
        same(g.numpy(), expected, 1e-4, 1e-5)


@settings(max_examples=20)
@given(programs(), st.integers(0, 1000))
def test_each_pass_leaves_what_the_interpreter_computes(program: Any, seed: int) -> None:
    xs = tensors(seed, *SHAPES[seed % 4 : seed % 4 + 2])
    f = compile(loss_and_grad(program))
    f(*xs)
    stages = [f.graph(name) for name in ("capture", "fold", "cse", "dce", "fuse", "plan")]
    before = interpret(stages[0], [x.numpy() for x in xs])
    for graph in stages[1:]:
        for a, b in zip(interpret(graph, [x.numpy() for x in xs]), before, strict=True):
            np.testing.assert_array_equal(a, b)
    assert len(stages[0].values) >= len(stages[2].values) >= len(stages[3].values)
    assert bytes_moved(stages[5]) <= bytes_moved(stages[3])


@settings(max_examples=15)
@given(programs(), st.integers(0, 1000))
def test_a_compiled_function_gives_gradients_inside_a_larger_one(program: Any, seed: int) -> None:
    xs = tensors(seed, *SHAPES[seed % 3 : seed % 3 + 2])
    f = compile(lambda *a: apply(ag, program, list(a)))
    grads = []
    for one in (f, f.fn):
        y = one(*[x * 1.5 for x in xs])
        weight = np.linspace(-1, 1, y.size, dtype=np.float32).reshape(y.shape)
        grads.append((y, *ag.grad(ag.sum(y * y * weight), xs, allow_unused=True)))
    for a, b in zip(*grads, strict=True):
        same(a.numpy(), b.numpy(), 1e-4, 1e-5)


def layer_norm(x: Any, w: Any, b: Any) -> Any:
    c = x - ag.mean(x, axis=-1, keepdims=True)
    return c / ag.sqrt(ag.mean(c * c, axis=-1, keepdims=True) + 1e-5) * w + b


def norm_step(x: Any, w: Any, b: Any) -> Any:
    loss = ag.mean(ag.tanh(layer_norm(x, w, b)) * x)
    return (loss, *ag.grad(loss, (x, w, b)))


def test_layer_norm_with_its_gradient_is_one_loop(backend: str) -> None:
    xs = tensors(0, (6, 40), (40,), (40,))
    f = compile(norm_step)
    for ours, eager in zip(f(*xs), norm_step(*xs), strict=True):
        same(ours.numpy(), eager.numpy())
    kernels = [g for g in f.graph().groups if g.rows]
    assert len(kernels) == 1
    assert bytes_moved(f.graph("fuse")) < bytes_moved(f.graph("dce")) / 10
    assert bool(f.source) == (backend == "C")


def test_the_same_function_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    xs = tensors(0, (6, 40), (40,), (40,))
    monkeypatch.setenv(native.OFF, "1")
    f = compile(norm_step)
    f(*xs)
    assert "NumPy (no C compiler)" in f.explain()


def test_a_failing_compiler_gives_one_line_and_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **options: Any) -> Any:
        raise native.NativeError("cc 1.0: error: no")

    monkeypatch.setattr(native, "load", broken)
    monkeypatch.setattr(native, "compiler", lambda: native.Compiler(("cc",), "cc 1.0"))
    (x,) = tensors(0, (5,))
    f = compile(lambda x: ag.exp(x) * 2.0)
    same(f(x).numpy(), np.exp(x.numpy()) * 2)
    assert f.explain().count("\n") == 0
    assert "cc 1.0: error: no" in f.explain()


def test_common_subexpressions_are_computed_once() -> None:
    (x,) = tensors(0, (5,))
    f = compile(lambda x: ag.tanh(x * 2.0) + ag.tanh(x * 2.0) * ag.tanh(x * 2.0))
    f(x)
    count = lambda g: sum(v.op == "tanh" for v in g.values)  # noqa: E731
    assert (count(f.graph("fold")), count(f.graph("cse"))) == (3, 1)


def test_dead_code_and_constants_go() -> None:
    (x,) = tensors(0, (5,))

    def fn(x: Any) -> Any:
        ag.exp(x)
        return x * (ag.ones(5) * 3.0) * 1.0

    f = compile(fn)
    with ag.no_grad():
        same(f(x).numpy(), 3 * x.numpy())
    assert [v.op for v in f.graph("dce").values] == ["input", "constant", "multiply"]


def test_intermediate_results_share_scratch_memory() -> None:
    (x,) = tensors(0, (32, 32))

    def fn(x: Any) -> Any:
        for axis in (0, 1, 0, 1, 0, 1):
            x = ag.tanh(x - ag.sum(x, axis=axis, keepdims=True))
        return x

    f = compile(fn)
    with ag.no_grad():
        same(f(x).numpy(), fn(x).numpy())
    graph = f.graph()
    assert 0 < graph.scratch_bytes < sum(v.nbytes for v in graph.place)
    assert "bytes of scratch memory" in str(graph)


def test_text_is_stable_and_shows_before_and_after() -> None:
    xs = tensors(0, (6, 40), (40,), (40,))
    f, again = compile(norm_step), compile(norm_step)
    f(*xs), again(*xs)
    for name in ("fold", "cse", "dce", "fuse", "plan"):
        assert f.show(name) == again.show(name)
        assert f.show(name).startswith(f"before {name}\n%0 = input(argument 0) : float32[6,40]")
    with pytest.raises(ValueError, match="show expects one of"):
        f.show("magic")


def test_a_changed_shape_dtype_or_number_compiles_again_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    f = compile(lambda x, k: x * k)
    with caplog.at_level(logging.INFO, "mlsys_lab.compile"):
        for x, k in ((np.ones(3, "f4"), 2.0), (np.ones(4, "f4"), 2.0), (np.ones(4), 2.0), (np.ones(4), 3.0)):
            for _ in range(2):
                same(f(ag.Tensor(x), k).numpy(), x * x.dtype.type(k))
    assert len(f.programs) == len(caplog.records) == 4
    assert "float32[4] in place of float32[3] (argument 0)" in f.explain()
    assert "float64[4] in place of float32[4] (argument 0)" in f.explain()
    assert "3.0 in place of 2.0 (argument 1)" in f.explain()


@pytest.mark.parametrize(
    ("fn", "line"),
    [
        (lambda x: x * 2.0 if x.sum() > 0 else x, "a Python branch"),
        (lambda x: x * x.sum().item(), r".item()"),
        (lambda x: x * float(x.sum()), "a Python number"),
        (lambda x: ag.Tensor(x.numpy() * 2), r".numpy()"),
        (lambda x: x * x.data.mean(), ".data"),
        (lambda x: x * np.random.default_rng().normal(), "two runs took different steps"),
    ],
)
def test_what_depends_on_values_runs_eagerly_with_a_line(fn: Any, line: str) -> None:
    (x,) = tensors(0, (5,))
    f = compile(fn)
    for sign in (1.0, -1.0):
        out = f(ag.Tensor(x.numpy() * np.float32(sign)))
        if "two runs" not in line:
            same(out.numpy(), fn(ag.Tensor(x.numpy() * np.float32(sign))).numpy())
    assert "runs eagerly" in f.explain()
    assert line in f.explain()
    with pytest.raises(CaptureError, match="has no graph"):
        f.graph()


def test_nan_and_infinity_pass_through(backend: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, -1.0, 0.0, 2.0], "f4")
    y = x[::-1].copy()

    def fn(x: Any, y: Any) -> Any:
        return (
            *(getattr(ag, n)(x, y) for n in ("maximum", "minimum", "add", "divide")),
            *(
                getattr(ag, n)(x)
                for n in ("relu", "tanh", "exp", "erf", "sigmoid", "abs", "sign", "sqrt", "log")
            ),
            *(getattr(ag, n)(x) for n in ("max", "min", "sum", "mean")),
            *(ag.max(ag.Tensor(np.zeros(6, "f4")) * y), ag.clip(x, -0.5, 0.5), ag.isnan(x), x > y),
        )

    def flat(x: Any, y: Any) -> Any:
        return fn(x, y)

    with np.errstate(all="ignore"):
        f = compile(lambda x, y: tuple(o for o in flat(x, y)))
        for ours, eager in zip(f(ag.Tensor(x), ag.Tensor(y)), fn(ag.Tensor(x), ag.Tensor(y)), strict=True):
            np.testing.assert_allclose(ours.numpy(), eager.numpy(), rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (4, 0), (1, 1), (3, 1), (1, 3)])
def test_scalars_and_empty_arrays(shape: tuple[int, ...], backend: str) -> None:
    (x,) = tensors(0, shape)

    def step(x: Any) -> Any:
        loss = ag.sum(ag.tanh(x * x) - ag.sum(x, axis=0 if shape else None, keepdims=True))
        return (loss, *ag.grad(loss, x))

    for ours, eager in zip(compile(step)(x), step(x), strict=True):
        same(ours.numpy(), eager.numpy())


def test_arguments_that_lie_transposed_or_are_given_twice(backend: str) -> None:
    a = np.arange(12, dtype="f4").reshape(3, 4).T
    x = ag.Tensor(a, requires_grad=True)
    step = lambda x, y: ag.grad(ag.sum(ag.tanh(x * 0.1) * y), x)[0]  # noqa: E731
    f = compile(step)
    same(f(x, x).numpy(), step(x, x).numpy())
    y = ag.Tensor(a + 1)
    same(f(x, y).numpy(), step(x, y).numpy())


def test_a_training_step_with_fused_rows_trains_like_eager(backend: str) -> None:
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(16, 12)).astype("f4"), rng.integers(0, 5, 16)
    shapes = ((20, 12), (20,), (5, 20), (5,))

    def run(compiled: bool) -> list[float]:
        params = tensors(1, *shapes)
        w1, b1, w2, b2 = params

        def loss_of(x: Any, target: Any) -> Any:
            h = fused_rows.bias_gelu(fused_rows.linear(x, w1), b1)
            loss = fused_rows.cross_entropy(fused_rows.linear(h, w2, b2), target)
            loss.backward()
            return loss

        step, losses = compile(loss_of) if compiled else loss_of, []
        for _ in range(12):
            for p in params:
                p.grad = None
            losses.append(float(step(ag.Tensor(x), ag.Tensor(target)).numpy()))
            for p in params:
                p.data -= 0.3 * p.grad.data
        return losses

    ours, eager = run(True), run(False)
    np.testing.assert_allclose(ours, eager, rtol=2e-6)
    assert ours[-1] < ours[0] / 2


def test_second_derivatives_go_through_a_compiled_function() -> None:
    (x,) = tensors(0, (5,))
    fn = lambda x: ag.sum(ag.tanh(x) * x * x)  # noqa: E731
    f, v = compile(fn), np.linspace(0, 1, 5, dtype="f4")
    same(
        ag.hessian_vector_product(f, x, v).numpy(),
        ag.hessian_vector_product(fn, x, v).numpy(),
    )
    inside = compile(lambda x: ag.hessian_vector_product(fn, x, v))
    same(inside(x).numpy(), ag.hessian_vector_product(fn, x, v).numpy())


def test_several_results_and_nested_arguments_keep_their_places(backend: str) -> None:
    x, y = tensors(0, (3, 4), (4,))

    def fn(p: dict[str, Any], k: int) -> dict[str, Any]:
        return {"a": ag.exp(p["x"] * 0.1), "b": [p["x"] + p["y"], k], "same": p["x"]}

    f = compile(fn)
    grads = []
    for one in (f, fn):
        out = one({"x": x, "y": y}, 3)
        assert out["b"][1] == 3
        assert out["same"] is x
        grads.append(ag.grad(ag.sum(out["a"] * out["a"]) + ag.sum(out["b"][0]), (x, y)))
    for a, b in zip(*grads, strict=True):
        same(a.numpy(), b.numpy())


def test_an_overridden_rule_is_captured_and_noticed_when_it_goes() -> None:
    x, w = tensors(0, (3, 4), (4, 2))
    step = lambda x, w: ag.grad(ag.sum(x @ w), w)[0]  # noqa: E731
    f = compile(step)
    before = f(x, w).numpy()
    with ag.override("matmul", lambda g, x, w: (g @ w.mT, 2 * (x.mT @ g))):
        same(f(x, w).numpy(), 2 * before)
    same(f(x, w).numpy(), before)
    assert "overridden rule" in f.explain()


def test_a_change_in_place_before_backward_is_an_error() -> None:
    (x,) = tensors(0, (5,))
    f = compile(lambda x: ag.tanh(x) * x)
    y = f(x)
    with ag.no_grad():
        x *= 2.0
    with pytest.raises(ag.InplaceError):
        ag.sum(y).backward()


def test_observers_hear_every_operation() -> None:
    (x,) = tensors(0, (5,))
    f, heard = compile(lambda x: ag.tanh(x) * x), []
    f(x)
    with ag.observe(lambda op, *rest: heard.append(op.name)):
        f(x)
    assert heard == ["tanh", "multiply"]


def test_chain_of_arithmetic_is_bit_equal_to_numpy() -> None:
    x, y = tensors(0, (64,), (64,))

    def fn(x: Any, y: Any) -> Any:
        for _ in range(20):
            x = (x * y + 0.3) / 1.1 - x
        return ag.sqrt(x * x)

    f = compile(fn)
    np.testing.assert_array_equal(f(x, y).numpy(), fn(x, y).numpy())
    assert isinstance(f.graph(), Graph)


@pytest.mark.parametrize("when", ["never", "first", "late", "after"])
def test_gradients_that_are_reset_or_added_up_inside_are_as_in_eager(when: str) -> None:
    x, w = tensors(0, (3, 4), (4,))

    def step(x: Any) -> Any:
        w.grad = None if when == "first" else w.grad
        loss = ag.sum(ag.tanh(x * w))
        w.grad = None if when == "late" else w.grad
        loss.backward()
        w.grad = None if when == "after" else w.grad
        return w.grad

    seen = []
    for one in (compile(step), step):
        w.grad = None
        results = [one(ag.Tensor(x.numpy())) for _ in range(3)]
        seen.append([None if g is None else g.numpy().copy() for g in (*results, w.grad)])
        assert results[-1] is w.grad
    for a, b in zip(*seen, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            same(a, b)


def test_reading_a_gradient_that_may_hold_more_runs_eagerly_with_a_line() -> None:
    (w,) = tensors(0, (4,))

    def step(x: Any) -> Any:
        ag.sum(ag.tanh(x * w)).backward()
        return w.grad * 0.5

    f = compile(step)
    f(ag.Tensor(np.ones(4, "f4")))
    assert "reads .grad" in f.explain()


def test_a_tensor_outside_that_changed_is_read_anew_and_compiles_again_for_another_shape() -> None:
    x, w = tensors(0, (3, 4), (4,))
    f = compile(lambda x: ag.sum(x * w, axis=0))
    for data in (w.data, w.data + 1, np.ones((3, 4), "f4"), np.ones((1,), "f4")):
        with ag.no_grad():
            w.data = data
            same(f(x).numpy(), (x.numpy() * data).sum(0))
    assert f.explain().count("\n") == 2


def test_which_arguments_are_the_same_tensor_is_guarded() -> None:
    x, y = tensors(0, (4,), (4,))
    f = compile(lambda a, b, c: a * 2.0 + b * 3.0 + c * 5.0)
    for given_ in ((x, y, x), (x, x, y), (x, y, y), (y, y, y)):
        same(f(*given_).numpy(), f.fn(*given_).numpy())
