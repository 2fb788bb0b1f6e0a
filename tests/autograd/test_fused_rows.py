"""The fused operations on the tape: values, first and second gradients are torch's, for C and for NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import mlsys_lab.autograd as ag
from mlsys_lab._core import native
from mlsys_lab.autograd import fused, fused_rows
from mlsys_lab.autograd.tape import table

torch = pytest.importorskip("torch", reason="torch is the oracle: pip install torch")
F = torch.nn.functional
needs_c = pytest.mark.skipif(native.compiler() is None, reason="no C compiler")


@pytest.fixture(params=[pytest.param("c", marks=needs_c), "numpy"])
def implementation(request):
    with fused.use(request.param):
        yield request.param


def packed(qkv, heads):
    batch, positions, width = qkv.shape
    q, k, v = qkv.reshape(batch, positions, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4)
    scores = q @ k.mT / q.shape[-1] ** 0.5
    hidden = torch.ones(positions, positions).triu(1).bool()
    out = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v
    return out.transpose(1, 2).reshape(batch, positions, -1)


def attention(q, k, v, causal):
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    hidden = torch.ones(scores.shape[-2:]).triu(1).bool()
    return (scores.masked_fill(hidden, float("-inf")) if causal else scores).softmax(-1) @ v


TARGET = np.array([[1, 0, 4], [2, -100, 3]])
# name: shapes of the float arguments, ours, torch's
CASES = {
    "linear": ([(2, 5, 7), (6, 7), (6,)], fused_rows.linear, F.linear),
    "linear without bias": ([(20, 17), (18, 17)], fused_rows.linear, F.linear),
    "linear and residual": (
        [(4, 7), (6, 7), (6,), (4, 6)],
        fused_rows.linear,
        lambda x, w, b, r: F.linear(x, w, b) + r,
    ),
    "bias_relu": ([(2, 3, 8), (8,)], fused_rows.bias_relu, lambda x, b: F.relu(x + b)),
    "bias_gelu": ([(2, 3, 8), (8,)], fused_rows.bias_gelu, lambda x, b: F.gelu(x + b)),
    "bias_gelu tanh": (
        [(5, 8), (8,)],
        lambda x, b: fused_rows.bias_gelu(x, b, "tanh"),
        lambda x, b: F.gelu(x + b, approximate="tanh"),
    ),
    "layer_norm": (
        [(2, 3, 8), (8,), (8,)],
        fused_rows.layer_norm,
        lambda x, w, b: F.layer_norm(x, (8,), w, b),
    ),
    "rms_norm": ([(2, 3, 8), (8,)], fused_rows.rms_norm, lambda x, w: F.rms_norm(x, (8,), w, eps=1e-5)),
    "cross_entropy": (
        [(2, 3, 5)],
        lambda x: fused_rows.cross_entropy(x, TARGET),
        lambda x: F.cross_entropy(x.flatten(0, 1), torch.from_numpy(TARGET).flatten()),
    ),
    "cross_entropy rows": (
        [(2, 3, 5)],
        lambda x: fused_rows.cross_entropy(x, TARGET, reduction="none"),
        lambda x: F.cross_entropy(x.mT, torch.from_numpy(TARGET), reduction="none"),
    ),
    "attention": (
        [(2, 4, 6, 8), (2, 4, 6, 8), (2, 4, 6, 8)],
        fused_rows.attention,
        lambda q, k, v: attention(q, k, v, True),
    ),
    "attention of shared heads, all keys": (
        [(2, 4, 3, 8), (2, 2, 7, 8), (2, 2, 7, 5)],
        lambda q, k, v: fused_rows.attention(q, k, v, causal=False),
        lambda q, k, v: attention(q, k, v, False),
    ),
    "packed_attention": (
        [(2, 6, 24)],
        lambda x: fused_rows.packed_attention(x, 2),
        lambda x: packed(x, 2),
    ),
    "embedding": (
        [(7, 4)],
        lambda w: fused_rows.embedding(np.array([[1, 1, 6], [0, 1, 2]]), w),
        lambda w: F.embedding(torch.tensor([[1, 1, 6], [0, 1, 2]]), w),
    ),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_values_first_and_second_gradients_are_torchs(case, dtype, implementation):
    compare(case, dtype)


ROWS = [op for op in table.values() if getattr(op.forward, "__module__", "") == fused_rows.__name__]
WRONG = [(op, rule, rule.argument) for op in ROWS for rule in op.rules]
WRONG += [(op, op.joint, i) for op in ROWS if op.joint for i in range(len(op.names) - 2)]


@pytest.mark.parametrize(("op", "rule", "argument"), WRONG, ids=[f"{op.name}-{i}" for op, _, i in WRONG])
def test_a_rule_that_is_wrong_for_one_argument_is_found(op, rule, argument, monkeypatch):
    right, used = rule.function, set()

    def wrong(g, *values):
        grad = right(g, *values)
        if rule.argument is not None:
            used.add(argument)
            return grad * 1.5
        used.update(i for i, part in enumerate(grad) if part is not None)
        return tuple(
            part * 1.5 if i == argument and part is not None else part for i, part in enumerate(grad)
        )

    monkeypatch.setattr(rule, "function", wrong)
    caught = []
    for case in (c for c in CASES if c.split()[0].rstrip(",") == op.name):
        try:
            compare(case, np.float64)
        except AssertionError:
            caught.append(case)
    assert caught or argument not in used, f"no case noticed that argument {argument} of {op.name} is wrong"
    assert used


def compare(case, dtype):
    """Values and derivatives of a case against torch's in float64."""
    shapes, ours, theirs = CASES[case]
    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=s).astype(dtype) for s in shapes]
    x = [ag.Tensor(a.copy(), requires_grad=True) for a in arrays]
    t = [torch.from_numpy(a.astype(np.float64)).requires_grad_() for a in arrays]
    out, wanted = ours(*x), theirs(*t)
    tolerance = {"rtol": 0, "atol": 3e-5 if dtype == np.float32 else 1e-12}
    assert out.dtype == dtype
    np.testing.assert_allclose(out.numpy(), wanted.detach().numpy(), **tolerance)
    g = rng.normal(size=out.shape).astype(dtype)
    seeds = [rng.normal(size=s).astype(dtype) for s in shapes]
    tg = torch.from_numpy(np.array(g, np.float64)).requires_grad_()

    out.backward(g)
    first = torch.autograd.grad(wanted, t, tg, create_graph=True)
    for mine, reference in zip(x, first, strict=True):
        assert mine.grad.dtype == dtype
        np.testing.assert_allclose(mine.grad.numpy(), reference.detach().numpy(), **tolerance)

    gradients = ag.grad((ours(*x),), tuple(x), (g,), create_graph=True)
    ours_sum = sum(((a * s).sum() for a, s in zip(gradients, seeds, strict=True)), ag.zeros((), dtype=dtype))
    theirs_sum = sum((a * torch.from_numpy(s).double()).sum() for a, s in zip(first, seeds, strict=True))
    second = torch.autograd.grad(theirs_sum, t, allow_unused=True)
    if not ours_sum.requires_grad:  # linear in everything
        assert all(s is None or not s.any() for s in second)
        return
    for mine in x:
        mine.grad = None
    ours_sum.backward()
    for mine, reference in zip(x, second, strict=True):
        reference = np.zeros(mine.shape) if reference is None else reference.numpy()
        found = np.zeros(mine.shape) if mine.grad is None else mine.grad.numpy()
        np.testing.assert_allclose(found, reference, rtol=1e-4, atol=tolerance["atol"] * 10)


def test_a_second_backward_through_cross_entropy_gives_the_same_again(implementation):
    x = ag.Tensor(np.float32([[1, 2, 3]]), requires_grad=True)
    loss = fused_rows.cross_entropy(x, np.array([0]))
    loss.backward(retain_graph=True)
    once = x.grad.numpy().copy()
    loss.backward(retain_graph=True)
    loss.backward()
    np.testing.assert_allclose(x.grad.numpy(), 3 * once, rtol=1e-6)


def test_no_gradient_is_computed_for_data(monkeypatch):
    sizes = []
    monkeypatch.setattr(
        fused_rows, "matmul", lambda a, b: (sizes.append((a.shape, b.shape)), ag.matmul(a, b))[1]
    )
    weight = ag.Tensor(np.ones((3, 4), np.float32), requires_grad=True)
    fused_rows.linear(np.ones((2, 4), np.float32), weight).backward(np.ones((2, 3), np.float32))
    assert sizes == [((3, 2), (2, 4))]


@pytest.mark.parametrize("dtype", [ag.float16, ag.bfloat16], ids=str)
def test_half_precision_stays_half_on_the_way_back(dtype, implementation):
    rng = np.random.default_rng(0)
    x, w, b = (
        ag.Tensor(rng.normal(size=s).astype(dtype), requires_grad=True) for s in ((2, 3, 8), (8,), (8,))
    )
    h = fused_rows.layer_norm(x, w, b)
    h = fused_rows.bias_gelu(fused_rows.linear(h, ag.Tensor(np.eye(8).astype(dtype)), b, x), b)
    out = fused_rows.cross_entropy(h, np.array([[0, 1, 2], [3, 4, 5]]))
    out.backward()
    assert [h.dtype, out.dtype, x.grad.dtype, w.grad.dtype, b.grad.dtype] == [dtype] * 5
    assert np.isfinite(x.grad.numpy().astype(np.float32)).all()
