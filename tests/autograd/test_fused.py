"""Fused operations agree with torch and with their NumPy twins, on the values that hurt too."""

from __future__ import annotations

import ctypes
import math
from importlib import resources

import ml_dtypes
import numpy as np
import pytest

from mlsys_lab._core import native
from mlsys_lab.autograd import fused

torch = pytest.importorskip("torch", reason="torch is the oracle: pip install torch")
F = torch.nn.functional
SHAPES = [(1, 1), (7, 33), (2, 3, 64), (1, 200), (300, 5), (4, 1000), (0, 8)]
needs_c = pytest.mark.skipif(native.compiler() is None, reason="no C compiler")
BOTH = [pytest.param("c", marks=needs_c), "numpy"]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture(params=BOTH)
def implementation(request):
    with fused.use(request.param):
        yield request.param


def leaf(x):
    """A torch tensor in float64 that records gradients."""
    return torch.from_numpy(np.array(x, np.float64)).requires_grad_()


def agree(ours, reference, dtype, slack=8.0):
    """Same shape, the type asked for, and an error of a few units in the last place of the largest value."""
    reference = reference.detach().numpy() if isinstance(reference, torch.Tensor) else reference
    assert ours.shape == reference.shape
    assert ours.dtype == dtype
    top = np.abs(reference).max(initial=0.0)
    np.testing.assert_allclose(
        ours.astype(np.float64), reference, rtol=0, atol=slack * np.finfo(dtype).eps * max(top, 1e-30)
    )


def gradients(out, g, *leaves):
    out.backward(torch.from_numpy(np.array(g, np.float64)))
    return [x.grad for x in leaves]


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_bias_gelu_agrees_with_torch_forward_and_backward(shape, approximate, dtype, implementation, rng):
    x, b, g = (3 * rng.normal(size=s).astype(dtype) for s in (shape, shape[-1:], shape))
    tx, tb = leaf(x), leaf(b)
    out = F.gelu(tx + tb, approximate=approximate)
    agree(fused.bias_gelu(x, b, approximate), out, dtype)
    wanted = gradients(out, g, tx, tb)
    for ours, theirs in zip(fused.bias_gelu_backward(g, x, b, approximate), wanted, strict=True):
        agree(ours, theirs, dtype, slack=50)  # 1 - tanh^2 cancels, times z^3


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bias_relu_agrees_with_torch_forward_and_backward(shape, dtype, implementation, rng):
    x, b, g = (rng.normal(size=s).astype(dtype) for s in (shape, shape[-1:], shape))
    tx, tb = leaf(x), leaf(b)
    out = F.relu(tx + tb)
    ours = fused.bias_relu(x, b)
    agree(ours, out, dtype)
    for mine, theirs in zip(fused.bias_relu_backward(g, ours), gradients(out, g, tx, tb), strict=True):
        agree(mine, theirs, dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layer_norm_agrees_with_torch_forward_and_backward(shape, dtype, implementation, rng):
    x, w, b, g = (rng.normal(size=s).astype(dtype) for s in (shape, shape[-1:], shape[-1:], shape))
    tx, tw, tb = leaf(x), leaf(w), leaf(b)
    out = F.layer_norm(tx, shape[-1:], tw, tb, eps=1e-5)
    ours, *saved = fused.layer_norm(x, w, b, 1e-5)
    agree(ours, out, dtype, slack=20)
    wanted = gradients(out, g, tx, tw, tb)
    for mine, theirs in zip(fused.layer_norm_backward(g, x, w, *saved), wanted, strict=True):
        agree(mine, theirs, dtype, slack=30) if shape[-1] > 1 else None


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rms_norm_agrees_with_torch_forward_and_backward(shape, dtype, implementation, rng):
    x, w, g = (rng.normal(size=s).astype(dtype) for s in (shape, shape[-1:], shape))
    tx, tw = leaf(x), leaf(w)
    out = F.rms_norm(tx, shape[-1:], tw, eps=1e-5)
    ours, rstd = fused.rms_norm(x, w, 1e-5)
    agree(ours, out, dtype)
    wanted = gradients(out, g, tx, tw)
    for mine, theirs in zip(fused.rms_norm_backward(g, x, w, rstd), wanted, strict=True):
        agree(mine, theirs, dtype, slack=30) if shape[-1] > 1 else None


def test_a_large_mean_costs_layer_norm_no_digits(dtype, implementation, rng):
    x = (rng.normal(size=(5, 64)) + 1000).astype(dtype)
    one, zero = np.ones(64, dtype), np.zeros(64, dtype)
    wanted = F.layer_norm(leaf(x), (64,), eps=1e-5)
    agree(fused.layer_norm(x, one, zero, 1e-5)[0], wanted, dtype, slack=1000)


@pytest.mark.parametrize("shape", [(1, 1), (7, 33), (2, 3, 10), (64, 512), (3, 17)], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_and_its_gradient_agree_with_torch(shape, reduction, dtype, implementation, rng):
    x = (5 * rng.normal(size=shape)).astype(dtype)
    target = rng.integers(0, shape[-1], shape[:-1])
    target.flat[0] = 0 if target.size == 1 else -1
    tx = leaf(x)
    flat = tx.reshape(-1, shape[-1])
    wanted = F.cross_entropy(flat, torch.from_numpy(target).flatten(), reduction=reduction, ignore_index=-1)
    loss, gradient = fused.cross_entropy(x, target, reduction, -1)
    agree(np.asarray(loss), wanted.reshape(loss.shape), dtype)
    wanted.sum().backward()
    agree(gradient, tx.grad, dtype, slack=20)


def test_cross_entropy_of_rows_that_do_not_count_is_nan_in_the_mean_as_in_torch(implementation):
    x, target = np.zeros((2, 3), np.float32), np.array([-100, -100])
    wanted = F.cross_entropy(torch.from_numpy(x), torch.from_numpy(target))
    assert math.isnan(wanted)
    assert math.isnan(fused.cross_entropy(x, target)[0])
    assert fused.cross_entropy(x, target, "sum")[0] == 0


def test_cross_entropy_does_not_overflow(implementation):
    loss, gradient = fused.cross_entropy(np.float32([[1e4, 0.0], [-1e4, 0.0]]), np.array([1, 0]), "none")
    assert loss.tolist() == [1e4, 1e4]
    assert gradient.tolist() == [[1, -1], [-1, 1]]


ATTENTION = [
    # batch, heads, kv heads, queries, keys, d, d_v, causal
    (2, 3, 3, 37, 37, 32, 32, True),
    (1, 4, 2, 64, 64, 20, 20, True),
    (2, 2, 1, 5, 70, 16, 24, False),
    (1, 1, 1, 1, 1, 1, 1, True),
    (1, 2, 2, 100, 33, 64, 64, False),
    (1, 2, 2, 7, 40, 8, 8, True),
]


@pytest.mark.parametrize("case", ATTENTION, ids=str)
def test_attention_agrees_with_torch_forward_and_backward(case, dtype, implementation, rng):
    batch, heads, shared, queries, keys, d, dv, causal = case
    shapes = (batch, heads, queries, d), (batch, shared, keys, d), (batch, shared, keys, dv)
    q, k, v = (rng.normal(size=s).astype(dtype) for s in shapes)
    g = rng.normal(size=(batch, heads, queries, dv)).astype(dtype)
    tq, tk, tv = leaf(q), leaf(k), leaf(v)
    out = F.scaled_dot_product_attention(tq, tk, tv, is_causal=causal, enable_gqa=True)
    ours, log_sum = fused.attention(q, k, v, causal)
    agree(ours, out, dtype)
    wanted = gradients(out, g, tq, tk, tv)
    for mine, theirs in zip(fused.attention_backward(g, q, k, v, ours, log_sum, causal), wanted, strict=True):
        agree(mine, theirs, dtype, slack=30)


def test_attention_with_a_cache_gives_the_last_rows_of_attention_without(implementation, rng):
    q, k, v = (rng.normal(size=(2, 3, 50, 16)).astype(np.float32) for _ in range(3))
    whole, _ = fused.attention(q, k, v)
    for first in (49, 47, 10):
        part, _ = fused.attention(q[:, :, first:], k, v, True, None, first)
        np.testing.assert_allclose(part, whole[:, :, first:], rtol=0, atol=1e-6)


def test_attention_takes_views_of_one_packed_array(dtype, implementation, rng):
    packed = rng.normal(size=(2, 40, 3, 4, 8)).astype(dtype)
    q, k, v = packed.transpose(2, 0, 3, 1, 4)
    assert not q.flags.c_contiguous
    wanted = F.scaled_dot_product_attention(leaf(q), leaf(k), leaf(v), is_causal=True)
    agree(fused.attention(q, k, v)[0], wanted, dtype)


def test_attention_scores_may_be_large(implementation):
    q = np.full((1, 1, 3, 4), 200, np.float32)
    out, _ = fused.attention(q, q, np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4))
    wanted = np.array([[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]])
    np.testing.assert_allclose(out[0, 0], wanted, rtol=1e-6)


def test_non_contiguous_inputs_give_what_contiguous_ones_give(implementation, rng):
    x, g = rng.normal(size=(2, 40, 30)).astype(np.float32)
    w = rng.normal(size=(60,)).astype(np.float32)[::2]
    for name, arrays in {
        "add_bias": (x[::2], w),
        "column_sum": (x.T[::3],),
        "bias_gelu": (x[::2, ::-1], w),
        "bias_relu": (x[:, :30:1][::-1], w),
        "layer_norm": (x.T.copy().T, w, w),
        "bias_gelu_backward": (g[::2], x[::-2], w),
        "rms_norm": (x[::-1], w),
    }.items():
        operation = fused.OPERATIONS[name]
        ours, wanted = operation(*arrays), operation(*(np.ascontiguousarray(a) for a in arrays))
        ours, wanted = (r if isinstance(r, tuple) else (r,) for r in (ours, wanted))
        for mine, theirs in zip(ours, wanted, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6, err_msg=name)


HURT = np.array([[1.0, np.nan, 2.0], [np.inf, 1.0, -1.0], [-np.inf, 1.0, 0.5], [0.0, -0.0, 300.0]])


def same_kind(ours, theirs, message):
    """NaN where torch has NaN, an infinity where torch has it with its sign, else close."""
    theirs = theirs.detach().numpy()
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs), err_msg=message)
    np.testing.assert_array_equal(np.isinf(ours), np.isinf(theirs), err_msg=message)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=message)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_and_infinity_pass_through_as_in_torch(dtype, implementation):
    x, zero, one = HURT.astype(dtype), np.zeros(3, dtype), np.ones(3, dtype)
    g = np.full((4, 3), 0.5, dtype)
    target = np.array([0, 1, 1, 2])

    def torch_leaf():  # float64: torch's float32 kernel gives NaN for gelu(inf), its float64 one inf
        return leaf(x)

    for approximate in ("none", "tanh"):
        t = torch_leaf()
        out = F.gelu(t, approximate=approximate)
        same_kind(fused.bias_gelu(x, zero, approximate), out, f"gelu {approximate}")
        out.backward(torch.from_numpy(g.astype(np.float64)))
        dx = fused.bias_gelu_backward(g, x, zero, approximate)[0]
        same_kind(dx, t.grad, f"gelu backward {approximate}")
    t = torch_leaf()
    out = F.relu(t)
    same_kind(fused.bias_relu(x, zero), out, "relu")
    same_kind(fused.layer_norm(x, one, zero)[0], F.layer_norm(torch_leaf(), (3,)), "layer_norm")
    same_kind(fused.rms_norm(x, one)[0], F.rms_norm(torch_leaf(), (3,), eps=1e-5), "rms_norm")
    t = torch_leaf()
    loss = F.cross_entropy(t, torch.from_numpy(target), reduction="none")
    ours, gradient = fused.cross_entropy(x, target, "none")
    same_kind(ours, loss, "cross_entropy")
    loss.backward(torch.ones(4, dtype=t.dtype))
    same_kind(gradient, t.grad, "cross_entropy gradient")
    q = x.reshape(1, 1, 4, 3)
    t = torch.from_numpy(q)
    wanted = (t @ t.mT / math.sqrt(3)).softmax(-1) @ t
    np.testing.assert_array_equal(np.isnan(fused.attention(q, q, q, False)[0]), np.isnan(wanted.numpy()))


@needs_c
def test_exp_and_erf_keep_to_the_errors_that_the_source_states():
    source = resources.files("mlsys_lab.autograd").joinpath("fused.c").read_text(encoding="utf-8")
    probe = "void probe(float *e, float *f, const float *x, I n)"
    library = native.load(
        f"{source}\n{probe} {{ for (I i = 0; i < n; i++) e[i] = exp_float(x[i]), f[i] = erf_float(x[i]); }}",
        name="probe",
    )
    x = np.concatenate([np.linspace(-104, 89.5, 400_001), np.linspace(-5, 5, 100_001)]).astype(np.float32)
    e, f = np.empty_like(x), np.empty_like(x)
    library.probe(*(ctypes.c_void_p(a.ctypes.data) for a in (e, f, x)), ctypes.c_int64(x.size))
    with np.errstate(over="ignore"):
        wanted = np.exp(x.astype(np.float64))
        rounded = wanted.astype(np.float32)
    np.testing.assert_array_equal(np.isinf(e), np.isinf(rounded))
    normal = (wanted > 1.2e-38) & np.isfinite(rounded)
    assert (np.abs(e[normal] / wanted[normal] - 1)).max() < 2e-7
    assert np.abs(e[~normal & np.isfinite(rounded)] - wanted[~normal & np.isfinite(rounded)]).max() < 2e-45
    assert np.abs(f - np.vectorize(math.erf)(x.astype(np.float64))).max() < 2e-7


@needs_c
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_c_and_twin_agree_where_torch_has_no_such_operation(shape, dtype, rng):
    x, b, r = (rng.normal(size=s).astype(dtype) for s in (shape, shape[-1:], shape))
    results = {}
    for name in ("c", "numpy"):
        with fused.use(name):
            table = np.ones((10, shape[-1]), dtype)
            index = np.random.default_rng(1).integers(0, 10, shape[:-1])
            fused.scatter_add_rows(table, index, x)
            results[name] = fused.add_bias(x, b), fused.add_bias(x, b, r), fused.column_sum(x), table
    for ours, twin in zip(results["c"], results["numpy"], strict=True):
        agree(ours, twin.astype(np.float64), dtype)


def test_scatter_add_rows_is_the_gradient_of_an_embedding(implementation, rng):
    index, g = rng.integers(0, 6, (3, 5)), rng.normal(size=(3, 5, 4)).astype(np.float32)
    weight = leaf(np.zeros((6, 4)))
    F.embedding(torch.from_numpy(index), weight).backward(torch.from_numpy(g.astype(np.float64)))
    table = np.zeros((6, 4), np.float32)
    fused.scatter_add_rows(table, index, g)
    agree(table, weight.grad, np.float32)


HALVES = [np.float16, ml_dtypes.bfloat16]


@pytest.mark.parametrize("half", HALVES, ids=["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32_and_rounded_once(half, implementation, rng):
    x, w, b, g = (rng.normal(size=s).astype(half) for s in ((6, 40), (40,), (40,), (6, 40)))
    wide = [a.astype(np.float32) for a in (x, w, b, g)]
    wx, ww, wb, wg = wide
    out, mean, rstd = fused.layer_norm(x, w, b)
    wanted, *saved = fused.layer_norm(ww * 0 + wx, ww, wb)
    assert out.dtype == half
    assert mean.dtype == rstd.dtype == np.float32
    np.testing.assert_array_equal(out, wanted.astype(half))
    grads = fused.layer_norm_backward(g, x, w, mean, rstd)
    assert [d.dtype for d in grads] == [half] * 3
    for ours, theirs in zip(grads, fused.layer_norm_backward(wg, wx, ww, *saved), strict=True):
        np.testing.assert_array_equal(ours, theirs.astype(half))
    assert fused.bias_gelu(x, b).dtype == half
    assert [r.dtype for r in fused.cross_entropy(x, np.arange(6))] == [half] * 2
    table = np.zeros((3, 40), half)
    fused.scatter_add_rows(table, np.array([0, 0, 1, 2, 2, 2]), x)
    assert table.dtype == half
    np.testing.assert_array_equal(table[1], x[2])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: fused.cross_entropy(x, np.array([0, 3])), IndexError, "target 3 is out of bounds for 3"),
        (lambda x: fused.cross_entropy(x, np.array([0, -1])), IndexError, "target -1"),
        (lambda x: fused.cross_entropy(x, np.array([0])), ValueError, r"\(2, 3\) need \(2,\), got \(1,\)"),
        (lambda x: fused.cross_entropy(x, np.array([0, 1]), "average"), ValueError, "'average'"),
        (lambda x: fused.bias_relu(x, np.ones(2, np.float32)), ValueError, r"\(2, ?\)"),
        (lambda x: fused.layer_norm(x.astype(int), x[0], x[0]), TypeError, "got int64"),
        (lambda x: fused.attention(x, x, x), ValueError, r"attention takes q .* got \(2, 3\)"),
        (lambda x: fused.scatter_add_rows(x, np.array([2]), x[:1]), IndexError, "2"),
    ],
)
def test_wrong_input_is_refused_before_memory_is_touched(call, error, message, implementation):
    with pytest.raises(error, match=message):
        call(np.ones((2, 3), np.float32))
