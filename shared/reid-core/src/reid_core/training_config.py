"""The fields of every method's configuration that are not its own. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from reid_core.config import DataConfig, OptimConfig, RunConfig, require
from reid_core.data.augment_config import AugmentConfig

__all__ = ["TrainingConfig", "require_identity_batches", "require_stripes"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What a training in batches of identities is told, beside its networks and losses.

    A method's configuration derives from it and, where its own fields are to come first in
    ``--help``, from a class that holds those: ``class AIMConfig(TrainingConfig, _Networks)``.
    """

    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    epochs: int = 100
    """Training epochs."""
    batch_size: int = 32
    """Images per batch and process."""
    num_instances: int = 8
    """Images per identity chunk; a batch holds batch_size / num_instances chunks."""
    start_from: Path | None = None
    """Official checkpoint to continue from, at the epoch after its own."""
    protocols: tuple[str, ...] = ()
    """Protocols to evaluate, e.g. prcc/cloth_changing_single_shot; default: the published ones."""
    select: Literal["last", "best"] = "last"
    """Weights to keep: the last epoch's, or, as papers do, the best on the TEST set."""
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        """Check that the fields go together."""
        require(self.epochs >= 1, f"epochs={self.epochs} must be at least 1")
        require_identity_batches(self.batch_size, self.num_instances)


def require_identity_batches(batch_size: int, num_instances: int) -> None:
    """Check that a batch is made of whole chunks of one identity.

    Args:
        batch_size: Images per batch and process.
        num_instances: Images per identity chunk.

    Raises:
        ConfigError: When it is not; the message says what to use instead.
    """
    require(num_instances >= 1, f"num_instances={num_instances} must be at least 1")
    require(batch_size >= 2, f"batch_size={batch_size} must be at least 2 (BatchNorm)")
    below = batch_size // num_instances * num_instances
    require(
        batch_size % num_instances == 0,
        f"batch_size={batch_size} is not a multiple of num_instances={num_instances}; use "
        f"{below or num_instances} or {below + num_instances}",
    )


def require_stripes(height: int, last_stride: int, *, num_stripes: int, what: str) -> None:
    """Check that a ResNet's map of images of this height can be cut into stripes of whole rows.

    Args:
        height: Image height in pixels.
        last_stride: Stride of the last stage.
        num_stripes: Number of stripes.
        what: Part of the network that cuts, for the message.

    Raises:
        ConfigError: When it has fewer rows.
    """
    least = num_stripes * 16 * last_stride
    require(
        height >= least,
        f"data.height={height} gives {what} fewer rows than its {num_stripes} stripes; use "
        f"{least} or more with model.last_stride={last_stride}",
    )
