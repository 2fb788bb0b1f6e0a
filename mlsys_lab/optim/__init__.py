"""Optimisers over flat arenas, learning-rate schedules, clipping and loss scaling, named as in torch."""

from mlsys_lab.optim.arena import Arena
from mlsys_lab.optim.optimizers import SGD, Adam, AdamW, Optimizer
from mlsys_lab.optim.schedules import (
    CosineAnnealingLR, LambdaLR, LinearLR, LRScheduler, StepLR, WarmupCosineLR,
)  # fmt: skip
from mlsys_lab.optim.stability import GradScaler, clip_grad_norm_
