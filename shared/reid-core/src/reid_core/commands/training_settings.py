"""What the commands read of the configuration of a training."""

from __future__ import annotations

from typing import Literal, Protocol

from reid_core.config import DataConfig, RunConfig
from reid_core.data.augment_config import AugmentConfig

__all__ = ["TrainingSettings"]


class TrainingSettings(Protocol):
    """What these functions read of a method's configuration; ``TrainingConfig`` has it all.

    A method that does not train in batches of identities has a configuration of its own.
    """

    @property
    def data(self) -> DataConfig:
        """Which images."""

    @property
    def augment(self) -> AugmentConfig:
        """How training images are varied."""

    @property
    def epochs(self) -> int:
        """Number of epochs of the whole run."""

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocols to evaluate."""

    @property
    def select(self) -> Literal["last", "best"]:
        """Weights to keep."""

    @property
    def run(self) -> RunConfig:
        """Where and how."""
