"""What keeps a training step finite: clipping by the gradients' norm, and loss scaling for float16.

Clipping follows Pascanu et al. 2013, loss scaling Micikevicius et al. 2018; both are called as in torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from mlsys_lab.optim.arena import Parameter
from mlsys_lab.optim.optimizers import Optimizer


def clip_grad_norm_(
    parameters: Parameter | Iterable[Parameter], max_norm: float, error_if_nonfinite: bool = False
) -> float:
    """Scale all gradients in place by one factor, so that their joint Euclidean norm is at most `max_norm`.

    Args:
        parameters: several or one; those without a gradient do not count.
        max_norm: the limit, above 0.
        error_if_nonfinite: refuse a norm that is infinite or NaN.

    Returns:
        The norm before.

    Raises:
        RuntimeError: the norm is not finite and `error_if_nonfinite` is set.
        ValueError: a limit that is none.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm is above 0, got {max_norm}: without a limit, do not clip")
    several = [parameters] if hasattr(parameters, "grad") else parameters
    gradients = [p.grad.data for p in several if p.grad is not None]
    total = math.sqrt(sum(_squares(g) for g in gradients))
    if error_if_nonfinite and not math.isfinite(total):
        raise RuntimeError(f"the gradients' norm is {total}, so they cannot be clipped")
    factor = max_norm / (total + 1e-6)  # 1e-6 as in torch, so that both clip alike
    if not factor >= 1:  # also for NaN
        for g in gradients:
            g *= g.dtype.type(factor)
    return total


def _squares(g: Any) -> float:
    """Added in float64: 1e30 has a square, and a million terms keep their digits."""
    flat = g.reshape(-1).astype(np.float64, copy=False)
    return float(flat @ flat)


class GradScaler:
    """Multiplies the loss so that float16 gradients do not vanish; divides them again before the step.

    A step whose gradients are not finite is left out and the factor goes down; after `growth_interval` good
    steps in a row it goes up.

    Args:
        init_scale: the first factor.
        growth_factor: what the factor is multiplied by when it goes up.
        backoff_factor: what it is multiplied by after a step that was left out.
        growth_interval: good steps in a row before it goes up.
        enabled: False makes every method do the plain thing.

    Example:
        >>> scaler = GradScaler()
        >>> scaler.get_scale()
        65536.0
    """

    def __init__(
        self, init_scale: float = 2.0**16, growth_factor: float = 2.0, backoff_factor: float = 0.5,
        growth_interval: int = 2000, enabled: bool = True,
    ) -> None:  # fmt: skip
        if not init_scale > 0:
            raise ValueError(f"init_scale is above 0, got {init_scale}")
        self.growth_factor, self.backoff_factor = growth_factor, backoff_factor
        self.growth_interval, self.enabled = growth_interval, enabled
        self._scale, self._good_steps = float(init_scale), 0
        self._found: dict[int, bool] = {}  # by the optimiser's id: whether a gradient was not finite

    def get_scale(self) -> float:
        """The factor in force."""
        return self._scale if self.enabled else 1.0

    def scale(self, loss: Any) -> Any:
        """The loss times the factor: call backward on it."""
        return loss * self._scale if self.enabled else loss

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the factor now, to clip them before the step.

        Raises:
            RuntimeError: called twice between two updates.
        """
        if not self.enabled:
            return
        if id(optimizer) in self._found:
            raise RuntimeError("unscale_ was called already for this optimiser since the last update()")
        gradients = [p.grad.data for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        for gradient in gradients:
            gradient *= gradient.dtype.type(1 / self._scale)
        self._found[id(optimizer)] = not all(bool(np.isfinite(g).all()) for g in gradients)

    def step(self, optimizer: Optimizer) -> Any:
        """The optimiser's step, unless a gradient is infinite or NaN."""
        if self.enabled and id(optimizer) not in self._found:
            self.unscale_(optimizer)
        return None if self._found.get(id(optimizer)) else optimizer.step()

    def update(self) -> None:
        """Set the factor for the next iteration."""
        if not self.enabled:
            return
        if any(self._found.values()):
            self._scale, self._good_steps = self._scale * self.backoff_factor, 0
        else:
            self._good_steps += 1
            if self._good_steps == self.growth_interval:
                self._scale, self._good_steps = self._scale * self.growth_factor, 0
        self._found.clear()

    def state_dict(self) -> dict[str, Any]:
        """The factor and how many good steps there were since it last changed."""
        return {"scale": self._scale, "_growth_tracker": self._good_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state: ours or torch's."""
        self._scale, self._good_steps = float(state_dict["scale"]), int(state_dict["_growth_tracker"])
