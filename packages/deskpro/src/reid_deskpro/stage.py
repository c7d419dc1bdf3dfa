"""What both stages of the training do alike: order of the images, optimiser, schedule."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from reid_core.commands.progress import named_progress
from reid_core.config import DataConfig
from reid_core.data.sample import Sample
from reid_core.data.samplers import DistinctIdentitySampler
from reid_core.engine import (
    ParameterGroup,
    Run,
    build_optimizer,
    cosine_factor,
    follow_schedule,
    warmup_cosine_factor,
)
from reid_deskpro.prepare.manifest import require_finished
from reid_deskpro.prepared import with_synthetic_companions
from reid_deskpro.stage_config import StageConfig

__all__ = ["build_optimizer_of", "build_schedule_of", "open_companions", "order_images"]

_ATTENTION = "spatial_attn"


def open_companions(run: Run, data: DataConfig) -> DataConfig:
    """Prepare a synthetic data set, as ``with_synthetic_companions`` does, and show how far it is.

    Raises:
        ReIDError: When it cannot be made, or the preparation of a prepared folder was stopped.
    """
    if data.prepared is not None:
        require_finished(data.prepared.expanduser())
    with run.main_first(), named_progress(enabled=run.is_main) as progress:
        return with_synthetic_companions(data, progress)


def order_images(
    config: StageConfig, run: Run, samples: Sequence[Sample]
) -> DistinctIdentitySampler:
    """Return the official order of these training images."""
    return DistinctIdentitySampler(
        [sample.pid for sample in samples],
        config.batch_size,
        config.num_instances,
        config.run.seed,
        run.rank,
        run.world_size,
    )


def build_optimizer_of(model: nn.Module, config: StageConfig) -> Optimizer:
    """Build Adam for what is trained: one group (official), or one more for the attention.

    Args:
        model: The network; frozen parameters are left out (official: they are listed, have no
            gradient, and so are not even decayed).
        config: Learning rate, and the attention's share of it.
    """
    settings, factor = config.optim.optimizer(config.batch_size), config.optim.attention_lr_factor
    if factor == 1:
        return build_optimizer(model.parameters(), settings)
    named = list(model.named_parameters())
    attention = [item for name, item in named if _ATTENTION in name.split(".")]
    others = [item for name, item in named if _ATTENTION not in name.split(".")]
    groups = [ParameterGroup(others), ParameterGroup(attention, factor)]
    return build_optimizer([group for group in groups if group.parameters], settings)


def build_schedule_of(optimizer: Optimizer, config: StageConfig, first_epoch: int = 0) -> LambdaLR:
    """Build the schedule, to be stepped once at the end of each epoch.

    Args:
        optimizer: Of ``build_optimizer_of``.
        config: Kind and length of the schedule.
        first_epoch: Epoch, from 0, that is trained next.
    """
    optim, epochs = config.optim, config.epochs

    def factor(epoch: int) -> float:
        if optim.schedule == "cosine":
            return cosine_factor(epoch, epochs=epochs)
        return warmup_cosine_factor(epoch, epochs=epochs, warmup_epochs=optim.warmup_epochs)

    return follow_schedule(optimizer, optim.optimizer(config.batch_size).lr, factor, first_epoch)
