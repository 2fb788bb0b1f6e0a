"""The ladder's kernels as the engine's fused operations: what they compute, and that they are registered."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mlsys_lab.kernels")
from mlsys_lab import kernels
from mlsys_lab.autograd import fused
from mlsys_lab.kernels import engine

OURS = engine.operations("simulator")


def normal(*shape: int, dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def test_install_registers_the_operations_for_cuda_and_none_for_the_processor():
    before = fused.available()
    try:
        names = kernels.install()
        after = fused.available()
        assert set(names) == {"matmul", "attention", "attention_backward", "adam_step"}
        for name, where in after.items():
            if name in names:
                assert (before[name]["cuda"], name in where["cuda"]) == ("numpy", True)
            else:
                assert where["cuda"] == before[name]["cuda"]
            assert where["cpu"] == before[name]["cpu"]
    finally:
        for name in OURS:
            fused.register(name, "cuda", None)
    assert fused.available() == before


@pytest.mark.parametrize(
    ("a", "b"), [((37, 41), (41, 45)), ((2, 3, 9), (9, 5)), ((2, 3, 4), (2, 4, 5)), ((0, 3), (3, 2))]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_product_is_numpys_for_every_shape_and_dtype(a, b, dtype):
    a, b = normal(*a, dtype=dtype), normal(*b, dtype=dtype)
    want = np.matmul(a.astype(np.float64), b)
    made = OURS["matmul"](a, b)
    assert (made.shape, made.dtype) == (want.shape, dtype)
    np.testing.assert_allclose(made, want, rtol=1e-5, atol=1e-5)
    out = np.zeros(want.shape, dtype)
    assert OURS["matmul"](a, b, out) is out
    np.testing.assert_array_equal(out, made)


@pytest.mark.parametrize(
    ("heads", "keys", "options"),
    [(2, 19, {}), (2, 19, {"causal": False}), (1, 19, {}), (2, 23, {"offset": 4}), (2, 19, {"scale": 0.3})],
)
def test_attention_and_its_gradients_are_the_engines_also_where_no_kernel_fits(heads, keys, options):
    q, g = normal(2, 2, 19, 24), normal(2, 2, 19, 24)[::-1]
    k, v = normal(2, heads, keys, 24), normal(2, heads, keys, 24) + 1
    made, log_sum = OURS["attention"](q, k, v, **options)
    want, want_sum = fused.attention.twin(q, k, v, **options)
    np.testing.assert_allclose(made, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_sum, want_sum, rtol=1e-4, atol=1e-5)
    gradients = OURS["attention_backward"](g, q, k, v, made, log_sum, **options)
    exact = fused.attention_backward.twin(g, q, k, v, want, want_sum, **options)
    into = tuple(np.zeros_like(x) for x in exact)
    OURS["attention_backward"](g, q, k, v, made, log_sum, **options, out_gradients=into)
    for one, want_one, written in zip(gradients, exact, into, strict=True):
        assert (one.shape, one.dtype) == (want_one.shape, np.float32)
        np.testing.assert_allclose(one, want_one, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(one, written)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled": True}])
def test_a_step_of_adam_changes_weight_and_moments_as_the_engine_does(options):
    given = [normal(301), normal(302)[:301], normal(303)[:301], normal(304)[:301] ** 2]
    ours, theirs = [x.copy() for x in given], [x.copy() for x in given]
    for step in (1, 2):
        assert OURS["adam_step"](*ours, step=step, lr=0.01, **options) is None
        fused.adam_step.twin(*theirs, step=step, lr=0.01, **options)
    for one, want in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, want, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(ours[0], given[0])
