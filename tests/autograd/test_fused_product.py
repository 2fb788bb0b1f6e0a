"""The matrix product in C agrees with torch's in float64, whatever lies how in memory."""

from __future__ import annotations

import numpy as np
import pytest

from mlsys_lab._core import native
from mlsys_lab.autograd import fused

needs_c = pytest.mark.skipif(native.compiler() is None, reason="no C compiler")


@pytest.fixture(params=[pytest.param("c", marks=needs_c), "numpy"])
def implementation(request):
    with fused.use(request.param):
        yield request.param


@pytest.fixture
def rng():
    return np.random.default_rng(7)


PRODUCTS = [
    ((64, 300), (300, 40)),
    ((13, 7), (7, 33)),
    ((61, 600), (600, 17)),
    ((3, 5), (5, 4)),
    ((2, 3, 20, 9), (9, 50)),
    ((2, 3, 20, 9), (2, 3, 9, 50)),
    ((4, 1, 20, 9), (3, 9, 31)),
    ((20, 9), (5, 9, 32)),
    ((8,), (8, 20)),
    ((30, 0), (0, 20)),
    ((0, 3), (3, 20)),
]


@pytest.mark.parametrize("shapes", PRODUCTS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("layout", ["plain", "a transposed", "b transposed", "every second", "reversed"])
def test_matrix_product_agrees_with_torch_in_float64(shapes, layout, dtype, implementation, rng):
    a, b = (rng.normal(size=s).astype(dtype) for s in shapes)
    if layout == "a transposed":
        a = np.moveaxis(np.ascontiguousarray(np.moveaxis(a, -1, 0)), 0, -1)
    elif layout == "b transposed":
        b = np.ascontiguousarray(b.swapaxes(-1, -2)).swapaxes(-1, -2)
    elif layout == "every second":
        a, b = np.repeat(a, 2, -1)[..., ::2], np.repeat(b, 2, -2)[..., ::2, :]
    elif layout == "reversed":
        a, b = a[..., ::-1], b[..., ::-1]
    torch = pytest.importorskip("torch", reason="torch is the oracle: pip install torch")
    wanted = torch.matmul(*(torch.from_numpy(x.astype(np.float64)) for x in (a, b))).numpy()
    ours = fused.matmul(a, b)
    assert (ours.shape, ours.dtype) == (wanted.shape, dtype)
    limit = 20 * np.finfo(dtype).eps * np.abs(wanted).max(initial=1e-30)
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=limit)


def test_matrix_product_writes_into_strided_memory_and_nowhere_else(implementation, rng):
    a, b = rng.normal(size=(2, 40, 30)).astype(np.float32), rng.normal(size=(2, 30, 45)).astype(np.float32)
    whole = np.full((40, 2, 60), 7, np.float32)
    out = whole.transpose(1, 0, 2)[:, :, 5:50]
    assert fused.matmul(a, b, out) is out
    np.testing.assert_allclose(out, a @ b, rtol=0, atol=1e-5)
    assert (whole[:, :, :5] == 7).all()
    assert (whole[:, :, 50:] == 7).all()


def test_matrix_product_may_write_over_its_argument(implementation, rng):
    a = rng.normal(size=(20, 20)).astype(np.float32)
    b = rng.normal(size=(20, 20)).astype(np.float32)
    wanted = a @ b
    fused.matmul(a, b, out=a)
    np.testing.assert_allclose(a, wanted, rtol=0, atol=1e-5)


def test_matrix_product_keeps_nan_and_infinity_in_their_rows_and_columns(implementation):
    a, b = np.ones((20, 20), np.float32), np.ones((20, 40), np.float32)
    a[3, 4], b[2, 37] = np.nan, np.inf
    out = fused.matmul(a, b)
    wanted = a @ b
    np.testing.assert_array_equal(out, wanted)
    assert np.isnan(out[3]).all()
    assert np.isinf(out[0, 37])
