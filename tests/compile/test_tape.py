"""Compiled functions and the tape: training steps, `.grad`, second derivatives, changes in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mlsys_lab.autograd as ag
from mlsys_lab.autograd import fused_rows
from mlsys_lab.compile import compile

RTOL, ATOL = 2e-5, 2e-6  # float32: sums are added in another order, exp, erf and tanh round differently


def tensors(seed: int, *shapes: tuple[int, ...], dtype: str = "float32") -> list[ag.Tensor]:
    rng = np.random.default_rng(seed)
    return [ag.Tensor(rng.normal(size=s).astype(dtype), requires_grad=True) for s in shapes]


def same(ours: Any, theirs: Any, rtol: float = RTOL, atol: float = ATOL) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol * max(1, np.abs(theirs).max(initial=0)))


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


def test_a_change_in_place_before_backward_is_an_error() -> None:
    (x,) = tensors(0, (5,))
    f = compile(lambda x: ag.tanh(x) * x)
    y = f(x)
    with ag.no_grad():
        x *= 2.0
    with pytest.raises(ag.InplaceError):
        ag.sum(y).backward()


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
