"""Optimisers from the settings that every method shares."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from reid_core.config import OptimConfig

__all__ = ["build_optimizer", "num_moments"]


def build_optimizer(parameters: Iterable[nn.Parameter], config: OptimConfig) -> Optimizer:
    """Build an optimiser: one learning rate and decay for every parameter (AIM, CSSC, official).

    Args:
        parameters: What it updates; frozen ones (``requires_grad`` false) are left out.
        config: Kind, learning rate, weight decay. Betas, epsilon and the rest are PyTorch's.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if config.name == "sgd":
        return torch.optim.SGD(
            trained, lr=config.lr, weight_decay=config.weight_decay, momentum=0.9, nesterov=True
        )
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(trained, lr=config.lr, weight_decay=config.weight_decay)


def num_moments(config: OptimConfig) -> int:
    """Return how many numbers the optimiser keeps of each parameter."""
    return 1 if config.name == "sgd" else 2
