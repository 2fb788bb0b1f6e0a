"""Learning rates over time: each schedule is one formula for the factor on a group's initial rate.

Names and arguments are torch.optim.lr_scheduler's; WarmupCosineLR is what language models are trained with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from mlsys_lab.optim.optimizers import Optimizer


class LRScheduler:
    """Sets each group's "lr" at construction and after each `step()`.

    Args:
        optimizer: whose rates are set; the ones it has now are the initial ones.

    Attributes:
        last_epoch: how many steps were taken.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.base_lrs = [float(group["lr"]) for group in optimizer.param_groups]
        self.last_epoch = 0
        self._set()

    def rate(self, initial: float, step: int) -> float:
        """The learning rate after `step` steps for a group that began with `initial`."""
        raise NotImplementedError

    def step(self) -> None:
        """One step on: call it after the optimiser's."""
        self.last_epoch += 1
        self._set()

    def get_last_lr(self) -> list[float]:
        """The rates in force, one per group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on: the initial rates and the number of steps."""
        return {"base_lrs": list(self.base_lrs), "last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.base_lrs, self.last_epoch = list(state_dict["base_lrs"]), int(state_dict["last_epoch"])
        self._set()

    def _set(self) -> None:
        for group, initial in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = self.rate(initial, self.last_epoch)


def counted(name: str, steps: int) -> int:
    """A number of steps, if it is one."""
    if not steps >= 1:
        raise ValueError(f"{name} is at least 1, got {steps}")
    return steps


class LambdaLR(LRScheduler):
    """The initial rate times `lr_lambda(step)`."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]) -> None:
        self.lr_lambda = lr_lambda
        super().__init__(optimizer)

    def rate(self, initial: float, step: int) -> float:
        return initial * self.lr_lambda(step)


class StepLR(LRScheduler):
    """Times `gamma` every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size, self.gamma = counted("step_size", step_size), gamma
        super().__init__(optimizer)

    def rate(self, initial: float, step: int) -> float:
        return initial * self.gamma ** (step // self.step_size)


class LinearLR(LRScheduler):
    """The factor goes from `start_factor` to `end_factor` in a straight line over `total_iters` steps."""

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = counted("total_iters", total_iters)
        super().__init__(optimizer)

    def rate(self, initial: float, step: int) -> float:
        done = min(step, self.total_iters) / self.total_iters
        return initial * (self.start_factor + (self.end_factor - self.start_factor) * done)


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the initial rate down to `eta_min` in `T_max` steps (Loshchilov and Hutter 2017)."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max, self.eta_min = counted("T_max", T_max), eta_min
        super().__init__(optimizer)

    def rate(self, initial: float, step: int) -> float:
        return self.eta_min + (initial - self.eta_min) * (1 + math.cos(math.pi * step / self.T_max)) / 2


class WarmupCosineLR(LRScheduler):
    """A straight line up for `warmup_steps`, then half a cosine down to `min_factor` at `total_steps`.

    The first step already has a rate above zero. After the end the rate stays.
    """

    def __init__(
        self, optimizer: Optimizer, *, warmup_steps: int, total_steps: int, min_factor: float = 0.1
    ) -> None:
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(f"warmup_steps {warmup_steps} lies in [0, total_steps {total_steps})")
        self.warmup_steps, self.total_steps, self.min_factor = warmup_steps, total_steps, min_factor
        super().__init__(optimizer)

    def rate(self, initial: float, step: int) -> float:
        if step < self.warmup_steps:
            return initial * (step + 1) / (self.warmup_steps + 1)
        done = min(1.0, (step - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        return initial * (self.min_factor + (1 - self.min_factor) * (1 + math.cos(math.pi * done)) / 2)
