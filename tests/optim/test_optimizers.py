"""Optimisers take the steps that torch's take."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

import mlsys_lab.autograd as ag
from mlsys_lab import nn, optim
from mlsys_lab.autograd import fused

torch = pytest.importorskip("torch", reason="torch is the oracle: pip install torch")
SHAPES = [(3, 4), (7,), (2, 3, 2), (), (11, 5)]


class Value:
    """The least that an optimiser asks of a parameter or a gradient."""

    def __init__(self, data, grad=None):
        self.data, self.grad = data, grad


@pytest.fixture(params=["c", "numpy"])
def implementation(request):
    if request.param == "c" and not fused.c_works():
        pytest.skip("no C compiler")
    with fused.use(request.param):
        yield request.param


def pair(shapes=SHAPES, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(rng.normal(size=s), dtype) for s in shapes]
    return [Value(a.copy()) for a in arrays], [torch.from_numpy(a.copy()).requires_grad_() for a in arrays]


def give_gradients(ours, theirs, step, skip=()):
    """The same gradients to both; parameters in `skip` have none."""
    rng = np.random.default_rng(1000 + step)
    for i, (p, t) in enumerate(zip(ours, theirs, strict=True)):
        g = np.asarray(rng.normal(size=p.data.shape) * 10.0 ** (i % 3 - 1), p.data.dtype)
        p.grad = None if i in skip else Value(g)
        t.grad = None if i in skip else torch.from_numpy(g.copy())


def assert_equal_weights(ours, theirs, rtol=2e-6):
    for p, t in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.data, t.detach().numpy(), rtol=rtol, atol=rtol)


CASES = {
    "SGD": {"lr": 0.1},
    "SGD decay": {"lr": 0.1, "weight_decay": 0.1},
    "SGD momentum": {"lr": 0.01, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
    "SGD nesterov": {"lr": 0.01, "momentum": 0.9, "nesterov": True},
    "Adam": {"lr": 0.01},
    "Adam decay": {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.99), "eps": 1e-6},
    "AdamW": {"lr": 0.01},
    "AdamW decay": {"lr": 0.01, "weight_decay": 0.3},
}


def both(case, ours, theirs):
    name = case.split()[0]
    return getattr(optim, name)(ours, **CASES[case]), getattr(torch.optim, name)(theirs, **CASES[case])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_fifty_steps_end_where_torchs_end(case, dtype, implementation):
    ours, theirs = pair(dtype=dtype)
    optimizer, reference = both(case, ours, theirs)
    for step in range(50):
        # A parameter without a gradient now and then: its moments and its count of steps stand still.
        give_gradients(ours, theirs, step, skip={step % 4} if step % 5 == 2 else ())
        optimizer.step()
        reference.step()
    assert_equal_weights(ours, theirs, rtol=2e-6 if dtype == np.float32 else 1e-12)
    assert all(p.data.dtype == dtype for p in ours)


@pytest.mark.parametrize("case", CASES)
def test_a_state_saved_by_torch_or_by_us_goes_on_as_if_nothing_happened(case):
    ours, theirs = pair()
    optimizer, reference = both(case, ours, theirs)
    for step in range(5):
        give_gradients(ours, theirs, step)
        optimizer.step()
        reference.step()
    fresh, again = ([Value(p.data.copy()) for p in ours] for _ in range(2))
    loaded, reloaded = both(case, fresh, theirs)[0], both(case, again, theirs)[0]
    loaded.load_state_dict(reference.state_dict())
    reloaded.load_state_dict(optimizer.state_dict())
    for step in range(5, 10):
        give_gradients(ours, theirs, step)
        for copies in (fresh, again):
            for p, q in zip(copies, ours, strict=True):
                p.grad = q.grad
        for one in (optimizer, reference, loaded, reloaded):
            one.step()
    for copies in (ours, fresh, again):
        assert_equal_weights(copies, theirs)


def test_a_saved_state_does_not_change_with_training():
    ours, theirs = pair()
    optimizer = optim.Adam(ours)
    give_gradients(ours, theirs, 0)
    optimizer.step()
    saved = optimizer.state_dict()
    before = saved["state"][0]["exp_avg"].copy()
    optimizer.step()
    np.testing.assert_array_equal(saved["state"][0]["exp_avg"], before)
    assert saved["state"][0]["step"] == 1


def test_groups_have_options_of_their_own():
    ours, theirs = pair()
    groups = [
        [{"params": p[:2], "lr": 0.1}, {"params": p[2:], "weight_decay": 0.5, "lr": 0.01}]
        for p in (ours, theirs)
    ]
    optimizer, reference = optim.AdamW(groups[0]), torch.optim.AdamW(groups[1])
    for step in range(20):
        give_gradients(ours, theirs, step)
        for one in (optimizer, reference):
            one.param_groups[1]["lr"] *= 0.9
            one.step()
    assert_equal_weights(ours, theirs)


def test_gradients_that_lie_in_one_buffer_take_one_call(monkeypatch):
    ours, _ = pair()
    optimizer = optim.SGD(ours, lr=1.0)
    arena = optimizer._arenas[0][0]
    flat = arena.buffer()
    flat[:] = np.arange(flat.size)
    for p, view in zip(ours, arena.split(flat), strict=True):
        p.grad = Value(view)
    before, calls = arena.data.copy(), []
    step = fused.sgd_step
    monkeypatch.setattr(fused, "sgd_step", lambda p, *a, **k: (calls.append(p.size), step(p, *a, **k)))
    optimizer.step()
    assert calls == [flat.size]
    np.testing.assert_array_equal(arena.data, before - flat)
    ours[1].grad = None
    calls.clear()
    optimizer.step()
    assert calls == [12, 12 + 1 + 55]


@pytest.mark.parametrize("order", ["in order", "the other way round"])
def test_gradients_in_one_buffer_end_where_torchs_end_whatever_their_order_and_steps(order):
    ours, theirs = pair()
    optimizer, reference = optim.Adam(ours, lr=0.01), torch.optim.Adam(theirs, lr=0.01)
    backwards = order != "in order"
    for step in range(8):
        give_gradients(ours, theirs, step, skip={3} if step < 3 else ())
        given = [p for p in (ours[::-1] if backwards else ours) if p.grad is not None]
        flat, start = np.concatenate([p.grad.data.ravel() for p in given]), 0
        for p in given:
            p.grad = Value(flat[start : start + p.data.size].reshape(p.data.shape))
            start += p.data.size
        optimizer.step()
        reference.step()
    assert_equal_weights(ours, theirs)


def test_parameters_are_views_of_the_arena_and_values_put_in_their_place_are_taken_in():
    ours, theirs = pair()
    optimizer = optim.SGD(ours, lr=0.5)
    arena = optimizer._arenas[0][0]
    assert all(np.shares_memory(p.data, arena.data) for p in ours if p.data.size)
    ours[0].data = np.full((3, 4), 5, np.float32)
    give_gradients(ours, theirs, 0)
    optimizer.step()
    np.testing.assert_array_equal(ours[0].data, np.float32(5) - np.float32(0.5) * ours[0].grad.data)
    assert np.shares_memory(ours[0].data, arena.data)
    ours[0].data = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"\(3, 4\) became \(4, 3\)"):
        optimizer.step()


def test_an_arena_gathers_gradients_in_order_with_zeros_for_none():
    ours, theirs = pair()
    arena = optim.Arena(ours)
    give_gradients(ours, theirs, 0, skip={1})
    wanted = [p.grad.data.ravel() if p.grad else np.zeros(p.data.size) for p in ours]
    np.testing.assert_array_equal(arena.gather(), np.concatenate(wanted))


@pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_parameters_step_in_float32_and_are_rounded(half):
    ours, _ = pair([(50,)])
    p = Value(ours[0].data.astype(half))
    g = np.linspace(-1, 1, 50).astype(half)
    wanted = (p.data.astype(np.float32) - np.float32(0.1) * g.astype(np.float32)).astype(half)
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = Value(g)
    optimizer.step()
    assert p.data.dtype == half
    np.testing.assert_array_equal(p.data, wanted)


def test_several_types_share_one_optimiser():
    ours, theirs = pair()
    ours[1].data = ours[1].data.astype(np.float64)
    theirs[1] = theirs[1].detach().double().requires_grad_()
    optimizer, reference = optim.Adam(ours), torch.optim.Adam(theirs)
    for step in range(3):
        give_gradients(ours, theirs, step)
        optimizer.step()
        reference.step()
    assert_equal_weights(ours, theirs)
    assert ours[1].data.dtype == np.float64


def test_zero_grad_forgets_or_fills():
    ours, theirs = pair()
    optimizer = optim.SGD(ours)
    give_gradients(ours, theirs, 0)
    kept = ours[0].grad
    optimizer.zero_grad(set_to_none=False)
    assert ours[0].grad is kept
    assert not kept.data.any()
    optimizer.zero_grad()
    assert all(p.grad is None for p in ours)


def test_step_returns_what_its_closure_returns():
    ours, theirs = pair()
    optimizer = optim.SGD(ours, lr=1.0)
    before = ours[0].data.copy()

    def closure():
        give_gradients(ours, theirs, 0)
        return 42

    assert optimizer.step(closure) == 42
    np.testing.assert_array_equal(ours[0].data, before - ours[0].grad.data)


one = Value(np.ones(3, np.float32))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: optim.SGD([]), ValueError, "SGD needs at least one parameter, got none"),
        (lambda: optim.Adam(iter(())), ValueError, "Adam needs at least one parameter"),
        (lambda: optim.Adam([{"params": []}]), ValueError, "has no parameters"),
        (lambda: optim.SGD([ag.Tensor([1.0])]), ValueError, "leaves with requires_grad=True"),
        (lambda: optim.SGD(ag.Tensor([1.0], requires_grad=True)), ValueError, "pass model.parameters"),
        (lambda: optim.Adam([one, one]), ValueError, "given twice"),
        (lambda: optim.Adam(nn.Linear(2, 2)), TypeError, r"got Linear: pass model.parameters\(\)"),
        (lambda: optim.Adam(nn.Linear(2, 2).parameters), TypeError, r"got method: pass model.parameters\(\)"),
        (lambda: optim.Adam(nn.Linear(2, 2).named_parameters()), TypeError, "got tuple: pass model"),
        (lambda: optim.SGD([one], lr=math.nan), ValueError, "lr is at least 0, got nan"),
        (lambda: optim.Adam([one], betas=(0.9,)), ValueError, "two of them, got"),
        (lambda: optim.Adam([one], betas=0.9), ValueError, "two of them, got 0.9"),
        (lambda: optim.StepLR(optim.SGD([one]), 0), ValueError, "step_size is at least 1, got 0"),
        (lambda: optim.LinearLR(optim.SGD([one]), total_iters=0), ValueError, "total_iters is at least 1"),
        (lambda: optim.CosineAnnealingLR(optim.SGD([one]), 0), ValueError, "T_max is at least 1, got 0"),
        (lambda: optim.GradScaler(-1), ValueError, "init_scale is above 0, got -1"),
        (lambda: optim.clip_grad_norm_([one], 0.0), ValueError, "max_norm is above 0, got 0"),
        (lambda: optim.clip_grad_norm_([one], math.nan), ValueError, "max_norm is above 0, got nan"),
        (lambda: optim.Adam([{"params": [one]}, {"params": [one]}]), ValueError, "given twice"),
        (lambda: optim.SGD([one], lr=-1), ValueError, "lr is at least 0, got -1"),
        (lambda: optim.Adam([one], betas=(0.9, 1.0)), ValueError, r"betas is in \[0, 1\)"),
        (lambda: optim.Adam([{"params": [one], "momentum": 0.9}]), ValueError, "no option 'momentum'"),
        (lambda: optim.SGD([one], nesterov=True), ValueError, "nesterov needs a momentum"),
        (lambda: optim.SGD([Value(np.arange(3))]), TypeError, "got int64"),
        (lambda: optim.WarmupCosineLR(optim.SGD([one]), warmup_steps=5, total_steps=5), ValueError, "warmup"),
    ],
)
def test_wrong_input_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_state_that_does_not_fit_is_refused():
    ours, theirs = pair()
    optimizer = optim.Adam(ours)
    give_gradients(ours, theirs, 0)
    optimizer.step()
    saved = optimizer.state_dict()
    with pytest.raises(ValueError, match=r"\[4\] parameters, the state's have \[5\]"):
        optim.Adam(ours[:4]).load_state_dict(saved)
    with pytest.raises(ValueError, match="exp_avg of a parameter of shape"):
        optim.Adam(ours[::-1]).load_state_dict(saved)
