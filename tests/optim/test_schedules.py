"""Schedules, clipping and loss scaling do what torch's do."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from mlsys_lab import optim

torch = pytest.importorskip("torch", reason="torch is the oracle: pip install torch")
SHAPES = [(3, 4), (7,), (2, 3, 2), (), (11, 5)]


class Value:
    """The least that an optimiser asks of a parameter or a gradient."""

    def __init__(self, data, grad=None):
        self.data, self.grad = data, grad


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


T = torch.optim.lr_scheduler
SCHEDULES = {
    "StepLR": {"step_size": 3, "gamma": 0.5},
    "LinearLR": {"start_factor": 0.2, "end_factor": 0.9, "total_iters": 7},
    "CosineAnnealingLR": {"T_max": 8, "eta_min": 0.01},
    "LambdaLR": {"lr_lambda": lambda step: 1 / (1 + step)},
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_give_torchs_rates(name):
    ours, theirs = pair()
    groups = [[{"params": p[:1], "lr": 0.5}, {"params": p[1:]}] for p in (ours, theirs)]
    optimizer, reference = optim.SGD(groups[0], lr=0.1), torch.optim.SGD(groups[1], lr=0.1)
    schedule = getattr(optim, name)(optimizer, **SCHEDULES[name])
    wanted = getattr(T, name)(reference, **SCHEDULES[name])
    for _ in range(12):
        np.testing.assert_allclose(schedule.get_last_lr(), wanted.get_last_lr(), rtol=1e-9, atol=1e-12)
        optimizer.step()
        reference.step()
        schedule.step()
        wanted.step()


def test_warm_up_rises_in_a_line_and_the_cosine_ends_at_its_floor():
    optimizer = optim.SGD([Value(np.ones(3, np.float32))], lr=2.0)
    schedule = optim.WarmupCosineLR(optimizer, warmup_steps=4, total_steps=10, min_factor=0.1)
    rates = []
    for _ in range(13):
        rates += schedule.get_last_lr()
        schedule.step()
    np.testing.assert_allclose(rates[:5], [0.4, 0.8, 1.2, 1.6, 2.0])
    assert rates[7] == pytest.approx(2 * (0.1 + 0.9 / 2))
    assert rates[10:] == pytest.approx([0.2] * 3)
    assert all(a > b for a, b in pairwise(rates[4:11]))


def test_a_schedule_goes_on_from_its_state():
    rates = []
    for stop in (None, 4):
        optimizer = optim.SGD([Value(np.ones(3, np.float32))], lr=1.0)
        schedule = optim.CosineAnnealingLR(optimizer, T_max=10)
        for step in range(7):
            if step == stop:
                saved = schedule.state_dict()
                optimizer = optim.SGD([Value(np.ones(3, np.float32))], lr=9.0)
                schedule = optim.CosineAnnealingLR(optimizer, T_max=10)
                schedule.load_state_dict(saved)
            schedule.step()
        rates.append(schedule.get_last_lr())
    assert rates[0] == rates[1]


@pytest.mark.parametrize("limit", [0.5, 1e3, math.inf])
def test_clipping_gives_torchs_gradients_and_norm(limit):
    ours, theirs = pair()
    give_gradients(ours, theirs, 0, skip={2})
    norm = optim.clip_grad_norm_(ours, limit)
    wanted = torch.nn.utils.clip_grad_norm_(theirs, limit)
    assert norm == pytest.approx(float(wanted), rel=1e-6)
    for p, t in zip(ours, theirs, strict=True):
        if p.grad is not None:
            np.testing.assert_allclose(p.grad.data, t.grad.numpy(), rtol=1e-5)


def test_clipping_takes_one_tensor_and_squares_beyond_float32():
    p = Value(np.ones(3, np.float32), Value(np.full(3, 1e30, np.float32)))
    assert optim.clip_grad_norm_(p, 1.0) == pytest.approx(math.sqrt(3) * 1e30, rel=1e-6)
    np.testing.assert_allclose(p.grad.data, 1 / math.sqrt(3), rtol=1e-6)


def test_clipping_can_refuse_a_norm_that_is_not_finite():
    p = Value(np.ones(2, np.float32), Value(np.array([1, np.inf], np.float32)))
    with pytest.raises(RuntimeError, match="norm is inf"):
        optim.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)


def test_the_scaler_leaves_out_infinite_steps_and_moves_its_factor_as_torchs_does():
    p = Value(np.ones(2, np.float32))
    optimizer = optim.SGD([p], lr=1.0)
    scaler = optim.GradScaler(init_scale=1024.0, growth_interval=3)
    theirs = torch.ones(2, requires_grad=True)
    reference, wanted = (
        torch.optim.SGD([theirs], lr=1.0),
        torch.amp.GradScaler("cpu", 1024.0, growth_interval=3),
    )
    for step in range(12):
        g = np.float32([0.25, np.inf if step in (2, 7) else -0.5])
        assert scaler.scale(1.0) == scaler.get_scale() == wanted.get_scale()
        p.grad = Value(g * np.float32(scaler.get_scale()))
        wanted.scale(torch.zeros(()))
        theirs.grad = torch.from_numpy(g * np.float32(wanted.get_scale()))
        if step % 2:
            scaler.unscale_(optimizer)
            with pytest.raises(RuntimeError, match="already"):
                scaler.unscale_(optimizer)
            wanted.unscale_(reference)
        scaler.step(optimizer)
        wanted.step(reference)
        scaler.update()
        wanted.update()
        np.testing.assert_array_equal(p.data, theirs.detach().numpy())
    assert scaler.state_dict()["scale"] == wanted.state_dict()["scale"]
    resumed = optim.GradScaler()
    resumed.load_state_dict(wanted.state_dict())
    assert resumed.state_dict() == scaler.state_dict()


def test_a_scaler_that_is_off_does_the_plain_thing():
    p = Value(np.ones(2, np.float32), Value(np.ones(2, np.float32)))
    optimizer, scaler = optim.SGD([p], lr=1.0), optim.GradScaler(enabled=False)
    loss = object()
    assert scaler.scale(loss) is loss
    scaler.step(optimizer)
    scaler.update()
    assert p.data.tolist() == [0, 0]
    assert scaler.get_scale() == 1.0
