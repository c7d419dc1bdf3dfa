"""Learning rates over epochs: linear warm-up, then steps at milestones or a cosine."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from reid_core.config import OptimConfig

__all__ = [
    "build_schedule",
    "cosine_factor",
    "follow_schedule",
    "lr_factor",
    "warmup_cosine_factor",
]

# Epochs after which LightMBN's rate would reach 0 beyond the end of its cosine.
_TAIL_EPOCHS = 500


def lr_factor(config: OptimConfig, epoch: int) -> float:
    """Return the learning rate of an epoch as a share of ``config.lr``.

    w(e) * gamma^(number of milestones <= e), where w rises linearly from ``warmup_factor`` in epoch
    0 to 1 in epoch ``warmup_epochs``, w(e) = f (1 - e/n) + e/n (Goyal et al., "Accurate, Large
    Minibatch SGD", 2017, section 2.2), or stays at ``warmup_factor`` until then (``constant``).
    With 10 epochs from 0.1 and milestones 30 and 60 these are the rates of CSSC's official code;
    with n - 1 epochs from 1/n they rise as (e + 1)/n, AGW's official ones for n = 10.

    Args:
        config: Milestones, gamma and warm-up.
        epoch: From 0.
    """
    factor = config.gamma ** bisect_right(config.milestones, epoch)
    if epoch >= config.warmup_epochs:
        return factor
    if config.warmup_method == "constant":
        return factor * config.warmup_factor
    progress = epoch / config.warmup_epochs
    return factor * (config.warmup_factor * (1 - progress) + progress)


def cosine_factor(epoch: int, *, epochs: int) -> float:
    """Return the share of the learning rate on a cosine that falls from 1 in epoch 0 to 0.

    (1 + cos(pi e / E)) / 2 (Loshchilov and Hutter, "SGDR", ICLR 2017, Eq. 5, without restarts).

    Args:
        epoch: e, from 0.
        epochs: E, length of the training.
    """
    return (1 + math.cos(math.pi * epoch / epochs)) / 2


def warmup_cosine_factor(
    epoch: int, *, epochs: int, warmup_epochs: int = 10, floor: float = 1e-3
) -> float:
    """Return the share of the learning rate after a warm-up and on a cosine (LightMBN, official).

    (e + 1) / W in the W epochs of the warm-up; then f + (1 - f)(1 + cos(pi (e - W) / (E - W - 1)))
    / 2, which reaches f in the last of E epochs; beyond epoch E it falls along a line that would
    meet f 500 epochs later. The rates of DeskPro's official code, with W = 10, f = 0.001, E = 140.

    Args:
        epoch: e, from 0.
        epochs: E, length of the training.
        warmup_epochs: W; 0 begins with the full rate.
        floor: f, smallest share.
    """
    if epoch < warmup_epochs:
        return (epoch + 1) / warmup_epochs

    def cosine(at: int) -> float:
        length = max(epochs - warmup_epochs - 1, 1)  # a shorter training has no cosine to follow
        return (1 + math.cos(math.pi * (at - warmup_epochs) / length)) / 2

    if epoch <= epochs:
        return floor + (1 - floor) * cosine(epoch)
    last = (1 - floor) * cosine(epochs)
    return floor + last * (1 - (epoch - epochs) / _TAIL_EPOCHS)


def build_schedule(optimizer: Optimizer, config: OptimConfig, first_epoch: int = 0) -> LambdaLR:
    """Build the schedule of an optimiser, to be stepped once at the end of each epoch.

    Args:
        optimizer: All of its groups follow the schedule, each from its share of ``config.lr`` (see
            ``ParameterGroup``).
        config: Learning rate, milestones, gamma and warm-up.
        first_epoch: Epoch, from 0, that is trained next: above 0 where training continues from
            weights alone. A resumed run restores the schedule's own state instead.
    """
    return follow_schedule(
        optimizer, config.lr, lambda epoch: lr_factor(config, epoch), first_epoch
    )


def follow_schedule(
    optimizer: Optimizer, lr: float, factor: Callable[[int], float], first_epoch: int = 0
) -> LambdaLR:
    """Build a schedule of which the shares are given; stepped once at the end of each epoch.

    Args:
        optimizer: All of its groups follow it, each from its share of ``lr``.
        lr: Full learning rate.
        factor: From an epoch, from 0, to the share of it.
        first_epoch: As in ``build_schedule``.
    """
    for group in optimizer.param_groups:
        group["initial_lr"] = lr * group.get("lr_factor", 1.0)
    return LambdaLR(optimizer, factor, last_epoch=first_epoch - 1)
