"""Losses as modules, named as in torch.nn; `reduction` is "mean", "sum" or "none"."""

from __future__ import annotations

from typing import Any

from mlsys_lab.nn import functional as F
from mlsys_lab.nn.module import Module


class Loss(Module):
    """A function of (input, target) with its options."""

    function: Any

    def __init__(self, reduction: str = "mean", **options: Any) -> None:
        self.options = {"reduction": reduction, **options}

    def forward(self, input: Any, target: Any) -> Any:
        return type(self).function(input, target, **self.options)


class MSELoss(Loss):
    function = F.mse_loss


class L1Loss(Loss):
    function = F.l1_loss


class NLLLoss(Loss):
    function = F.nll_loss


class BCEWithLogitsLoss(Loss):
    function = F.binary_cross_entropy_with_logits


class CrossEntropyLoss(Loss):
    """Logits (N, C, ...) and classes (N, ...)."""

    function = F.cross_entropy

    def __init__(self, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction, ignore_index=ignore_index)
