"""``<method>-export --format official``: a run's training state, for the authors' layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import torch

from reid_core.commands.arguments import ExportArguments
from reid_core.commands.budget import open_plan
from reid_core.config import load_config
from reid_core.engine.checkpoint import Checkpoint, read_checkpoint
from reid_core.engine.distributed import World
from reid_core.engine.folder import CHECKPOINT_NAME, METRICS_NAME
from reid_core.errors import CheckpointError
from reid_core.report import read_metrics

__all__ = ["TrainingState", "last_figures", "official_path", "read_training_state"]


class _Selects(Protocol):
    @property
    def select(self) -> Literal["last", "best"]: ...


C = TypeVar("C", bound=_Selects)


class TrainingState(NamedTuple, Generic[C]):
    """A run as it was left.

    Attributes:
        config: Its settings.
        checkpoint: Everything that was tracked.
    """

    config: C
    checkpoint: Checkpoint


def official_path(arguments: ExportArguments, *, suffix: str) -> Path:
    """Return the file that an official export writes.

    Args:
        arguments: Of the command.
        suffix: Suffix of the authors' files, e.g. ``.pth``.
    """
    folder = arguments.weights if arguments.weights.is_dir() else arguments.weights.parent
    return arguments.out or folder / f"official{suffix}"


def read_training_state(
    arguments: ExportArguments, config_type: type[C], *, holds: str
) -> TrainingState[C]:
    """Read the run that is exported.

    Args:
        arguments: ``weights`` must be a run folder.
        config_type: The method's configuration dataclass.
        holds: What the official layout holds that only the training state has, e.g. ``all six
            networks``.

    Raises:
        CheckpointError: When there is no training state, it cannot be read, or it is not that of
            the weights that the run kept.
        MemoryLimitError: When it would need more memory than it may have.
    """
    folder = arguments.weights
    path = folder / CHECKPOINT_NAME
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is no run folder with a {CHECKPOINT_NAME}: the official layout holds "
            f"{holds} of the training, so it can only be written from a run folder"
        )
    config = load_config(config_type, folder)
    if config.select == "best":
        raise CheckpointError(
            f"{folder} kept the best epoch's test-time network only (select=best), but the "
            f"official layout needs {holds} of one epoch; train with --select last to export it"
        )
    plan = open_plan("export", arguments.memory_limit, torch.device("cpu"), World())
    plan.add("the training state, and the networks made from it", 2 * path.stat().st_size)
    plan.require("export")
    return TrainingState(config, read_checkpoint(path))


def last_figures(folder: Path, protocols: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the figures that a run ended with; empty where it never got there.

    Args:
        folder: The run folder.
        protocols: Second parts of the names of the protocols wanted, the first known one counts,
            e.g. ``cloth_changing`` for ``ltcc/cloth_changing``.
    """
    for record in reversed(read_metrics(folder / METRICS_NAME)):
        results = record.get("results", {})
        for wanted in protocols:
            for name, figures in results.items():
                if name.partition("/")[2] == wanted:
                    return dict(figures)
    return {}
