"""Learning rates over epochs: linear warm-up, then steps at milestones."""

from __future__ import annotations

from bisect import bisect_right

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from reid_core.config import OptimConfig

__all__ = ["build_schedule", "lr_factor"]


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


def build_schedule(optimizer: Optimizer, config: OptimConfig, first_epoch: int = 0) -> LambdaLR:
    """Build the schedule of an optimiser, to be stepped once at the end of each epoch.

    Args:
        optimizer: All of its groups follow the schedule, each from its share of ``config.lr`` (see
            ``ParameterGroup``).
        config: Learning rate, milestones, gamma and warm-up.
        first_epoch: Epoch, from 0, that is trained next: above 0 where training continues from
            weights alone. A resumed run restores the schedule's own state instead.
    """
    for group in optimizer.param_groups:
        group["initial_lr"] = config.lr * group.get("lr_factor", 1.0)
    return LambdaLR(optimizer, lambda epoch: lr_factor(config, epoch), last_epoch=first_epoch - 1)
