"""Changes in place of views: as torch where the owner can be told, refused where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mlsys_lab.autograd as ag

torch = pytest.importorskip("torch")
START = np.arange(1, 5, dtype=np.float32)


def a_slice(x: Any) -> Any:
    y = x * 1.0
    z = y[:2]
    z *= 10.0
    return y


def a_slice_that_is_used(x: Any) -> Any:
    y = x * 1.0
    z = y[:2]
    z *= 10.0
    return z * z


def a_slice_of_a_slice(x: Any) -> Any:
    y = x * 1.0
    z = y[:3][1:]
    z *= 10.0
    return y * y


def rows_of_a_reshaped_result(x: Any) -> Any:
    y = (x * 1.0).reshape(2, 2)
    y[0] *= 3.0
    y[0][1:] *= 5.0
    return y * y


def a_reshaped_result(x: Any) -> Any:
    y = (x * 1.0).reshape(2, 2)
    y *= 3.0
    return y * y


def picked_elements(x: Any) -> Any:
    y = x * 1.0
    z = y[[0, 1]]
    z *= 10.0
    return y


@pytest.mark.parametrize(
    "change",
    [
        a_slice,
        a_slice_that_is_used,
        a_slice_of_a_slice,
        rows_of_a_reshaped_result,
        a_reshaped_result,
        picked_elements,
    ],
)
def test_a_change_of_a_view_reaches_its_owner_as_in_torch(change: Callable[[Any], Any]) -> None:
    ours, theirs = ag.Tensor(START.copy(), requires_grad=True), torch.tensor(START, requires_grad=True)
    values = []
    for x in (ours, theirs):
        y = change(x)
        (y * y).sum().backward()
        values.append((y.detach().numpy(), x.grad.numpy()))
    for a, b in zip(*values, strict=True):
        np.testing.assert_array_equal(a, b)


def reshaped(y: Any) -> Any:
    return y.reshape(2, 2)


def turned(y: Any) -> Any:
    return y[None].T


def a_piece(y: Any) -> Any:
    return ag.split(y, 2)[0]


@pytest.mark.parametrize(
    ("view", "named"), [(reshaped, "reshape"), (turned, "permute_dims"), (a_piece, "getitem")]
)
def test_a_view_whose_owner_cannot_be_told_is_not_changed(view: Callable[[Any], Any], named: str) -> None:
    y = ag.Tensor(START.copy(), requires_grad=True) * 1.0
    z = view(y)
    with pytest.raises(ag.InplaceError, match=f"'{named}' shares its memory"):
        z *= 10.0
    np.testing.assert_array_equal(y.numpy(), START)
    with ag.no_grad():
        z *= 10.0


def test_a_view_of_a_leaf_is_not_changed() -> None:
    x = ag.Tensor(START.copy(), requires_grad=True)
    z = x[:2]
    with pytest.raises(ag.InplaceError, match="leaf"):
        z *= 10.0
    np.testing.assert_array_equal(x.numpy(), START)


def halved(a: ag.Tensor) -> None:
    a /= 2


def raised(a: ag.Tensor) -> None:
    a += 0.5


def set_(a: ag.Tensor) -> None:
    a[0] = 0.5


@pytest.mark.parametrize("change", [halved, raised, set_])
def test_integers_are_not_cut_off_in_place(change: Callable[[ag.Tensor], None]) -> None:
    a = ag.Tensor([1, 2, 3])
    with pytest.raises(ag.InplaceError, match=r"int64 cannot become float\d\d in place: write x = x \+ y"):
        change(a)
    assert a.tolist() == [1, 2, 3]
    a += 1
    a[0] = 7
    assert a.tolist() == [7, 3, 4]
