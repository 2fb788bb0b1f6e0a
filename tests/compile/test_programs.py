"""Random programs, compiled: against torch, eager, and the interpreter of the passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlsys_lab.autograd as ag
from mlsys_lab.compile import bytes_moved, compile, interpret

torch = pytest.importorskip("torch")
RTOL, ATOL = 1e-4, 1e-5  # float32: sums are added in another order, exp, erf and tanh round differently
UNARY = ("tanh", "exp", "sin", "square", "abs", "negative", "sigmoid", "relu", "erf")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum")
SHAPES = ((3, 4), (4,), (1, 4), (3, 1), (), (2, 3, 4))


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
    same(ours[0].numpy(), loss.detach().numpy())
    for x, g in zip(theirs, ours[1:], strict=True):
        expected = np.zeros(tuple(x.shape), dtype) if x.grad is None else x.grad.numpy()
        same(g.numpy(), expected)


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
        same(a.numpy(), b.numpy())
