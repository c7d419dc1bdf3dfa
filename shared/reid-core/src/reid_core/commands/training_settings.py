"""What the commands read of the configuration of a training."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

from reid_core.config import DataConfig, RunConfig
from reid_core.data.augment_config import AugmentConfig

__all__ = ["EPOCHS", "Rounds", "TrainingSettings"]


class Rounds(NamedTuple):
    """What people count a training by.

    Attributes:
        name: ``epoch``, or what a method counts instead.
        length: Epochs of each.
    """

    name: str = "epoch"
    length: int = 1

    def number(self, epochs: int) -> int:
        """Return how many rounds so many finished epochs are."""
        return epochs // self.length


EPOCHS = Rounds()


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
