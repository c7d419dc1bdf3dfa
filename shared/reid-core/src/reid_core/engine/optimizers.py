"""Optimisers from the settings that every method shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from reid_core.config import OptimConfig

__all__ = ["ParameterGroup", "build_optimizer", "num_moments"]


class ParameterGroup(NamedTuple):
    """Parameters that share a learning rate.

    Attributes:
        parameters: What is updated; frozen ones (``requires_grad`` false) are left out.
        lr_factor: Their learning rate as a multiple of ``config.lr``, above 0.
    """

    parameters: Sequence[nn.Parameter]
    lr_factor: float = 1.0


def build_optimizer(
    parameters: Iterable[nn.Parameter | ParameterGroup], config: OptimConfig
) -> Optimizer:
    """Build an optimiser: one weight decay for every parameter (AIM, CSSC, AGW, official).

    Args:
        parameters: What it updates; frozen ones (``requires_grad`` false) are left out. Groups have
            a learning rate of their own each, all others share one.
        config: Kind, learning rate, weight decay. Betas, epsilon and the rest are PyTorch's.
    """
    given = list(parameters)
    groups = [_param_group(item, config) for item in given if isinstance(item, ParameterGroup)]
    others = [item for item in given if isinstance(item, nn.Parameter)]
    if others or not groups:
        groups.append({"params": _trained(others)})
    if config.name == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, weight_decay=config.weight_decay, momentum=0.9, nesterov=True
        )
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, weight_decay=config.weight_decay)


def num_moments(config: OptimConfig) -> int:
    """Return how many numbers the optimiser keeps of each parameter."""
    return 1 if config.name == "sgd" else 2


def _trained(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]


def _param_group(group: ParameterGroup, config: OptimConfig) -> dict[str, Any]:
    return {
        "params": _trained(group.parameters),
        "lr": config.lr * group.lr_factor,
        "lr_factor": group.lr_factor,  # the schedule starts from it
    }
