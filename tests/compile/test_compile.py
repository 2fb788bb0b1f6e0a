"""Compiled functions: passes, guards, what is refused, the tape, both backends; against eager."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

import mlsys_lab.autograd as ag
from mlsys_lab._core import native
from mlsys_lab.compile import CaptureError, Graph, bytes_moved, compile

RTOL, ATOL = 2e-5, 2e-6  # float32: sums are added in another order, exp, erf and tanh round differently


def tensors(seed: int, *shapes: tuple[int, ...], dtype: str = "float32") -> list[ag.Tensor]:
    rng = np.random.default_rng(seed)
    return [ag.Tensor(rng.normal(size=s).astype(dtype), requires_grad=True) for s in shapes]


def same(ours: Any, theirs: Any, rtol: float = RTOL, atol: float = ATOL) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol * max(1, np.abs(theirs).max(initial=0)))


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


def test_an_overridden_rule_is_captured_and_noticed_when_it_goes() -> None:
    x, w = tensors(0, (3, 4), (4, 2))
    step = lambda x, w: ag.grad(ag.sum(x @ w), w)[0]  # noqa: E731
    f = compile(step)
    before = f(x, w).numpy()
    with ag.override("matmul", lambda g, x, w: (g @ w.mT, 2 * (x.mT @ g))):
        same(f(x, w).numpy(), 2 * before)
    same(f(x, w).numpy(), before)
    assert "overridden rule" in f.explain()


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


class Holder:
    """An argument that is neither tensor nor number."""

    def __init__(self, value: float) -> None:
        self.value = value


def times(value: float) -> Any:
    return lambda x: x * value


@pytest.mark.parametrize(
    ("fn", "make"),
    [
        (lambda x, s: x * s, np.float32),
        (lambda x, s: x * s, np.float64),
        (lambda x, s: x * s, lambda v: np.arange(30)[int(v)]),
        (lambda x, o: x * o.value, Holder),
        (lambda x, f: f(x), times),
        (lambda x, s: x * float(len(s)), lambda v: set(range(int(v)))),
        (lambda x, s: x * float(s.stop), lambda v: slice(0, int(v))),
    ],
)
def test_an_argument_is_not_taken_for_an_earlier_one(fn: Any, make: Any) -> None:
    f, x = compile(fn), ag.Tensor(np.ones(3, "f4"))
    values = [float(v) for v in range(2, 20)]
    assert [float(f(x, make(v)).numpy()[0]) for v in values] == values


def test_keywords_and_nesting_are_part_of_what_was_given() -> None:
    x, y = ag.Tensor(np.ones(3, "f4")), ag.Tensor(np.full(3, 5, "f4"))

    def fn(*args: Any, k: Any) -> Any:
        first = args[0][0] + args[0][1] if isinstance(args[0], tuple) else args[0]
        return first * 2.0 if isinstance(k, float) else first * k[0]

    f = compile(fn)
    given = [((x, y), {"k": 1.0}), ((x,), {"k": (y, 1.0)}), (((x, y),), {"k": 1.0}), ((x,), {"k": [y, 1.0]})]
    for args, kwargs in given:
        np.testing.assert_array_equal(f(*args, **kwargs).numpy(), fn(*args, **kwargs).numpy())
    assert len(f.programs) == 4


def test_zeros_of_both_signs_are_two_numbers_and_nan_is_one(backend: str) -> None:
    x = ag.Tensor(np.ones(3, "f4"))
    f = compile(lambda x, s: x / (x * s))
    with np.errstate(all="ignore"):
        assert [float(f(x, s).numpy()[0]) for s in (0.0, -0.0)] == [np.inf, -np.inf]
        before = len(f.programs)
        for _ in range(3):
            assert np.isnan(f(x, float("nan")).numpy()).all()
    assert len(f.programs) == before + 1
    signed = ag.Tensor(np.float32([0.0, -0.0]))
    with np.errstate(all="ignore"):
        out = compile(lambda x: 1.0 / (x * signed.data))(ag.Tensor(np.ones(2, "f4")))
    assert out.tolist() == [np.inf, -np.inf]


def test_past_sixteen_programs_a_function_runs_eagerly_and_says_so_once() -> None:
    f, x = compile(lambda x, s: x * s), ag.Tensor(np.ones(3, "f4"))
    for v in range(30):
        assert float(f(x, float(v)).numpy()[0]) == v
    assert len(f.programs) == 16
    assert f.explain().count("16 programs are the limit") == 1
    assert f.explain().count("\n") == 16
