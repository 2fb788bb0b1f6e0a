"""Every rule of the table against torch: values, first and second gradients, dtype and shape.

The upstream gradients are random; shapes broadcast, are empty, or scalar; inputs may lie transposed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes

import mlsys_lab.autograd as ag
from mlsys_lab.autograd.tape import table

torch = pytest.importorskip("torch")
F = torch.nn.functional


@dataclass(frozen=True)
class Case:
    """One operation, ours and torch's, and the inputs that it takes."""

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    shapes: Any = 1  # how many inputs that broadcast, or the fixed shapes
    domain: str = "real"
    least: tuple[int, int] = (0, 0)  # fewest axes, fewest elements along each


def positive(x: np.ndarray) -> np.ndarray:
    return np.abs(x) + 0.3


DOMAINS = {
    "real": lambda x: x,
    "positive": positive,
    "unit": lambda x: np.tanh(x) * 0.9,
    "away": lambda x: np.where(x < 0, x - 0.3, x + 0.3),
    "apart": lambda x: 0.2 * x + np.arange(x.shape[-1]),  # a deviation that float32 can divide by
    "whole": lambda x: np.round(x * 1.5) / 1.5,  # with ties
}
INDEX = np.array([[2, 0], [2, 1]])
ALONG = np.array([[2, 0, 2], [1, 1, 0]])


def unary(name: str, theirs: Any = None, domain: str = "real", ours: Any = None) -> Case:
    return Case(name, ours or getattr(ag, name), theirs or getattr(torch, name), 1, domain)


def binary(name: str, theirs: Any, domain: str = "real", ours: Any = None) -> Case:
    return Case(name, ours or getattr(ag, name), theirs, 2, domain)


CASES = [
    *(unary(n) for n in ("negative", "exp", "expm1", "sin", "cos", "tanh", "sinh", "cosh", "square", "erf")),
    *(unary(n) for n in ("sigmoid", "relu")),
    *(unary(n, domain="positive") for n in ("log", "log2", "log1p", "sqrt")),
    *(unary(n, domain="unit") for n in ("tan", "asin", "acos")),
    unary("atan", torch.atan),
    unary("abs", domain="away"),
    unary("silu", F.silu),
    unary("softplus", F.softplus),
    unary("gelu", F.gelu),
    unary(
        "gelu tanh", lambda x: F.gelu(x, approximate="tanh"), ours=lambda x: ag.gelu(x, approximate="tanh")
    ),
    unary("clip", lambda x: torch.clip(x, -0.5, 0.7), ours=lambda x: ag.clip(x, -0.5, 0.7)),
    unary("clip below", lambda x: torch.clip(x, -0.5), ours=lambda x: ag.clip(x, min=-0.5)),
    unary(
        "by numbers",
        lambda x: 1.5 - (2 / (x * 3 + 7) - 1) / 2,
        "unit",
        ours=lambda x: 1.5 - (2 / (x * 3 + 7) - 1) / 2,
    ),
    *(
        unary(f"power {p}", lambda x, p=p: x**p, "positive", ours=lambda x, p=p: x**p)
        for p in (0, 1, 2, 3, 0.5, -1, 2.5, 4)
    ),
    unary("number to a power", lambda x: 1.7**x, ours=lambda x: 1.7**x),
    binary("add", torch.add),
    binary("subtract", torch.subtract),
    binary("multiply", torch.multiply),
    binary("divide", torch.divide, "away"),
    binary("pow", torch.pow, "positive"),
    binary("maximum", torch.maximum, "whole"),
    binary("minimum", torch.minimum, "whole"),
    binary("logaddexp", torch.logaddexp),
    binary(
        "where", lambda a, b: torch.where(a > 0.2, a * b, b), ours=lambda a, b: ag.where(a > 0.2, a * b, b)
    ),
    binary("reused", lambda a, b: a * b + a * a * b, ours=lambda a, b: a * b + a * a * b),
    Case("sum all", lambda x: ag.sum(x), lambda x: x.sum()),
    Case("sum axis", lambda x: ag.sum(x, axis=-1), lambda x: x.sum(-1), least=(1, 0)),
    Case(
        "sum axes",
        lambda x: ag.sum(x, axis=(0, -1), keepdims=True),
        lambda x: x.sum((0, -1), True),
        least=(2, 0),
    ),
    Case("mean all", lambda x: ag.mean(x), lambda x: x.mean(), least=(0, 1)),
    Case("mean axis", lambda x: ag.mean(x, axis=0), lambda x: x.mean(0), least=(1, 1)),
    Case("max", lambda x: ag.max(x, axis=-1), lambda x: x.amax(-1), 1, "whole", least=(1, 1)),
    Case("max all", lambda x: ag.max(x), lambda x: x.amax(), 1, "whole", least=(1, 1)),
    Case(
        "min", lambda x: ag.min(x, axis=0, keepdims=True), lambda x: x.amin(0, True), 1, "whole", least=(1, 1)
    ),
    Case("prod", lambda x: ag.prod(x, axis=0), lambda x: x.prod(0), 1, "whole", least=(1, 1)),
    Case("prod all", lambda x: ag.prod(x), lambda x: x.prod(), least=(1, 1)),
    Case("var", lambda x: ag.var(x, axis=-1), lambda x: x.var(-1, correction=0), least=(1, 1)),
    Case("std", lambda x: ag.std(x, axis=-1, correction=1), lambda x: x.std(-1), 1, "apart", least=(1, 2)),
    Case("cumulative sum", lambda x: ag.cumulative_sum(x, axis=-1), lambda x: x.cumsum(-1), least=(1, 0)),
    Case("logsumexp", lambda x: ag.logsumexp(x, axis=-1), lambda x: x.logsumexp(-1), least=(1, 1)),
    Case("softmax", lambda x: ag.softmax(x, axis=0), lambda x: x.softmax(0), least=(1, 1)),
    Case("log_softmax", lambda x: ag.log_softmax(x, axis=-1), lambda x: x.log_softmax(-1), least=(1, 1)),
    Case("flip", lambda x: ag.flip(x, axis=0), lambda x: x.flip(0), least=(1, 0)),
    Case("roll", lambda x: ag.roll(x, 2, axis=0), lambda x: x.roll(2, 0), least=(1, 1)),
    Case("reshape", lambda x: ag.reshape(x, (-1,)), lambda x: x.reshape(x.numel())),
    Case("transpose", lambda x: x.T * 1.0, lambda x: x.permute(tuple(reversed(range(x.ndim))))),
    Case(
        "expand_dims",
        lambda x: ag.squeeze(ag.expand_dims(x, axis=-1), 0),
        lambda x: x[..., None][0],
        [(1, 3)],
    ),
    Case("broadcast_to", lambda x: ag.broadcast_to(x, (4, 2, 3)), lambda x: x.expand(4, 2, 3), [(2, 1)]),
    Case("moveaxis", lambda x: ag.moveaxis(x, 0, 2), lambda x: x.moveaxis(0, 2), [(2, 3, 4)]),
    Case("tril", lambda x: ag.tril(x, k=1), lambda x: x.tril(1), least=(2, 0)),
    Case("triu", lambda x: ag.triu(x), lambda x: x.triu(), least=(2, 0)),
    Case(
        "pad",
        lambda x: ag.pad(x, ((0, 2), (1, 0)), 0.5),
        lambda x: F.pad(x, (1, 0, 0, 2), value=0.5),
        [(2, 3)],
    ),
    Case("slices", lambda x: x[1:, None, ::-2], lambda x: x[1:, None].flip(2)[:, :, ::2], [(3, 5)]),
    Case("one number of a tensor", lambda x: x[1, -1] * x[0], lambda x: x[1, -1] * x[0], [(2, 3)]),
    Case("integer index", lambda x: x[INDEX, 1:], lambda x: x[torch.tensor(INDEX), 1:], [(3, 4)]),
    Case("mask", lambda x: x[x.data > 0], lambda x: x[x > 0], [(3, 4)]),
    Case("take", lambda x: ag.take(x, INDEX, axis=1), lambda x: x[:, torch.tensor(INDEX)], [(2, 3, 2)]),
    Case(
        "embedding", lambda w: ag.embedding(INDEX, w), lambda w: F.embedding(torch.tensor(INDEX), w), [(3, 4)]
    ),
    Case(
        "take_along_axis",
        lambda x: ag.take_along_axis(x, ALONG, 1),
        lambda x: x.gather(1, torch.tensor(ALONG)),
        [(2, 4)],
    ),
    Case(
        "take twice",
        lambda x: ag.take(x * x, INDEX) ** 3,
        lambda x: (x * x)[torch.tensor(INDEX)] ** 3,
        [(3, 2)],
    ),
    Case("astype", lambda x: x.astype("float64").astype(x.dtype), lambda x: x.double().to(x.dtype)),
    Case("sort", lambda x: ag.sort(x, axis=0), lambda x: x.sort(0).values, [(4, 3)]),
    Case(
        "sort down", lambda x: ag.sort(x, descending=True), lambda x: x.sort(descending=True).values, [(4, 3)]
    ),
    Case("sort, squared", lambda x: ag.sort(x, axis=0) ** 3, lambda x: x.sort(0).values ** 3, [(4, 3)]),
    Case("topk", lambda x: ag.topk(x, 2, 0)[0], lambda x: x.topk(2, 0).values, [(4, 3)]),
    Case("setitem", lambda x, v: table["setitem"](x, v, (slice(1, 3), 0)), None, [(4, 3), (2,)]),
    Case(
        "concat",
        lambda a, b: ag.concat([a, b, a], axis=-1),
        lambda a, b: torch.cat([a, b, a], -1),
        [(2, 3), (2, 1)],
    ),
    Case(
        "stack", lambda a, b: ag.stack([a, b], axis=1), lambda a, b: torch.stack([a, b], 1), [(2, 3), (2, 3)]
    ),
    Case(
        "split",
        lambda x: ag.concat(ag.split(x, [1, 3], 1)[1:][::-1], axis=1),
        lambda x: torch.cat([x[:, 3:], x[:, 1:3]], 1),
        [(2, 5)],
    ),
    *(
        Case(f"matmul {a} {b}", ag.matmul, torch.matmul, [a, b])
        for a, b in [
            *[
                ((3,), (3,)),
                ((2, 3), (3,)),
                ((3,), (3, 2)),
                ((2, 3), (3, 4)),
                ((5, 2, 3), (3, 4)),
                ((5, 2, 3), (3,)),
            ],
            *[
                ((5, 2, 3), (5, 3, 1)),
                ((2, 1, 2, 3), (4, 3, 2)),
                ((3,), (2, 3, 4)),
                ((0, 3), (3, 2)),
                ((2, 0), (0, 2)),
            ],
        ]
    ),
    *(
        Case(f"einsum {e}", lambda *x, e=e: ag.einsum(e, *x), lambda *x, e=e: torch.einsum(e, *x), shapes)
        for e, shapes in [
            ("ij,jk->ik", [(2, 3), (3, 2)]),
            ("bhqd,bhkd->bhqk", [(2, 1, 3, 2), (2, 1, 4, 2)]),
            ("ij->j", [(2, 3)]),
            ("ij,jk,k", [(2, 3), (3, 2), (2,)]),
        ]
    ),
    Case("convolution", ag.conv2d, F.conv2d, [(2, 2, 5, 4), (3, 2, 3, 2), (3,)]),
    Case(
        "convolution with everything",
        lambda *x: ag.conv2d(*x, stride=(2, 1), padding=1, dilation=(1, 2), groups=2),
        lambda *x: F.conv2d(*x, stride=(2, 1), padding=1, dilation=(1, 2), groups=2),
        [(2, 4, 5, 6), (6, 2, 2, 3), (6,)],
    ),
    Case(
        "max_pool2d", lambda x: ag.max_pool2d(x, 3, 2, 1), lambda x: F.max_pool2d(x, 3, 2, 1), [(2, 1, 5, 6)]
    ),
    Case(
        "avg_pool2d", lambda x: ag.avg_pool2d(x, 2, 1, 1), lambda x: F.avg_pool2d(x, 2, 1, 1), [(1, 2, 4, 3)]
    ),
    Case(
        "cross_entropy",
        lambda x: ag.cross_entropy(x, np.array([2, 0, 2])),
        lambda x: F.cross_entropy(x, torch.tensor([2, 0, 2])),
        [(3, 4)],
    ),
]
BY_NAME = {case.name: case for case in CASES}


def torch_setitem(x: Any, v: Any) -> Any:
    x = x.clone()
    x[1:3, 0] = v
    return x


object.__setattr__(BY_NAME["setitem"], "theirs", torch_setitem)


def inputs_of(
    case: Case, shapes: list[tuple[int, ...]], seed: int, dtype: Any, turned: bool
) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(DOMAINS[case.domain](rng.normal(size=s)), dtype=dtype) for s in shapes]
    if turned:  # the same values, in Fortran order
        arrays = [np.asfortranarray(a) for a in arrays]
    return arrays


def close(ours: Any, theirs: Any, dtype: Any, what: str) -> None:
    ours = ours.data if isinstance(ours, ag.Tensor) else ours
    theirs = theirs.numpy(force=True)
    assert ours.dtype == np.dtype(dtype), f"{what}: dtype {ours.dtype}"
    assert ours.shape == theirs.shape, f"{what}: shape {ours.shape}, torch has {theirs.shape}"
    tolerance = 1e-10 if dtype == np.float64 else 2e-4
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=what)


def compare(case: Case, arrays: list[np.ndarray], dtype: Any, seed: int) -> None:
    """Values, first and second gradients, ours against torch's."""
    rng = np.random.default_rng(seed + 1)
    xs = [ag.Tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(np.array(a, order="C"), requires_grad=True) for a in arrays]
    y, t = case.ours(*xs), case.theirs(*ts)
    close(y, t, dtype, "value")
    up = rng.normal(size=y.shape).astype(dtype)
    first = ag.grad(y, xs, up, retain_graph=True)
    wanted = torch.autograd.grad(t, ts, torch.tensor(up), create_graph=True)
    for i, (a, b) in enumerate(zip(first, wanted, strict=True)):
        close(a, b, dtype, f"gradient {i}")
    tracked = ag.grad(y, xs, ag.Tensor(up), create_graph=True)
    ups = [rng.normal(size=a.shape).astype(dtype) for a in arrays]
    ours = [(a, u) for a, u in zip(tracked, ups, strict=True) if a.requires_grad]
    for i, (a, b) in enumerate(zip(tracked, wanted, strict=True)):
        close(a, b, dtype, f"recorded gradient {i}")
    second = ag.grad([a for a, _ in ours], xs, [u for _, u in ours], allow_unused=True)
    live = [(b, torch.tensor(u)) for b, u in zip(wanted, ups, strict=True) if b.requires_grad]
    theirs = (
        torch.autograd.grad([b for b, _ in live], ts, [u for _, u in live], allow_unused=True)
        if live
        else [None] * len(ts)
    )
    for i, (a, b) in enumerate(zip(second, theirs, strict=True)):
        close(a, torch.zeros(a.shape, dtype=ts[i].dtype) if b is None else b, dtype, f"second gradient {i}")


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
@given(data=st.data())
def test_values_first_and_second_gradients_are_those_of_torch(case, data):
    if isinstance(case.shapes, int):
        low, side = case.least
        shapes = (
            [data.draw(array_shapes(min_dims=low, max_dims=3, min_side=side, max_side=4))]
            if case.shapes == 1
            else list(
                data.draw(mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=3))[0]
            )
        )
    else:
        shapes = case.shapes
    dtype = data.draw(st.sampled_from([np.float64, np.float32]))
    seed = data.draw(st.integers(0, 10_000))
    compare(case, inputs_of(case, shapes, seed, dtype, data.draw(st.booleans())), dtype, seed)


def fixed(case: Case, dtype: Any = np.float64) -> list[np.ndarray]:
    shapes = {1: [(3, 4)], 2: [(3, 1), (4,)]}[case.shapes] if isinstance(case.shapes, int) else case.shapes
    return inputs_of(case, shapes, 3, dtype, False)


@pytest.mark.parametrize("dtype", [ag.float16, ag.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_in_half_precision_values_and_gradients_are_torchs_rounded(case, dtype):
    """torch computes in float64 from the same rounded inputs; ours may be off by eight units."""
    arrays = fixed(case, dtype)
    xs = [ag.Tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in arrays]
    y, t = case.ours(*xs), case.theirs(*ts)
    up = np.random.default_rng(4).normal(size=y.shape).astype(dtype)
    wanted = torch.autograd.grad(t, ts, torch.tensor(up.astype(np.float64)))
    unit = float(ml_dtypes.finfo(dtype).eps)
    for ours, theirs in zip([y, *ag.grad(y, xs, up)], [t, *wanted], strict=True):
        assert ours.dtype == dtype
        exact = theirs.numpy(force=True)
        assert ours.shape == exact.shape
        room = 8 * unit * max(1.0, float(np.abs(exact).max(initial=0)))
        np.testing.assert_allclose(ours.data.astype(np.float64), exact, rtol=8 * unit, atol=room)


def rows_of(case: Case) -> set[str]:
    """The rows of the table that a case passes through."""
    seen: set[str] = set()
    with ag.observe(lambda op, arguments, result: seen.add(op.name)):
        compare(case, fixed(case), np.float64, 3)
    return seen


@pytest.fixture(scope="module")
def users() -> dict[str, list[Case]]:
    """Row of the table to the cases that use it."""
    found: dict[str, list[Case]] = {}
    for case in CASES:
        for name in rows_of(case):
            found.setdefault(name, []).append(case)
    return found


# The fused rows have a test of this kind of their own.
FUSED = "mlsys_lab.autograd.fused_rows"
OWN = [op for op in table.values() if getattr(op.forward, "__module__", "") != FUSED]
RULES = [(op, rule) for op in OWN for rule in [*op.rules, op.joint] if rule is not None]


@pytest.mark.parametrize(("op", "rule"), RULES, ids=lambda v: getattr(v, "name", None) or str(v.argument))
def test_a_rule_that_is_wrong_by_a_factor_is_found(op, rule, users, monkeypatch):
    right = rule.function

    def wrong(g, *values):
        grad = right(g, *values)
        return tuple(part * 1.5 for part in grad) if isinstance(grad, tuple) else grad * 1.5

    monkeypatch.setattr(rule, "function", wrong)
    for case in users.get(op.name, []):
        try:
            compare(case, fixed(case), np.float64, 3)
        except AssertionError:
            return
    pytest.fail(f"no case noticed that the rule of {op.name} for argument {rule.argument} is wrong")
