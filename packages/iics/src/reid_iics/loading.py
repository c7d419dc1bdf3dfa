"""From any IICS weights file to a network that embeds images, and back to the official layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from reid_core.commands.arguments import ExportArguments
from reid_core.commands.network import LoadedNetwork, load_own_network, network_card
from reid_core.commands.official import official_path, read_training_state
from reid_core.config import to_dict
from reid_core.errors import CheckpointError
from reid_core.models import load_state
from reid_iics import __version__
from reid_iics.config import IICSConfig
from reid_iics.model import IICS
from reid_iics.stage import Stage
from reid_iics.weights import read_official, save_official

__all__ = ["build_network", "export_official", "iics_card", "load_network"]

_OFFICIAL_HEIGHT, _OFFICIAL_WIDTH = 256, 128  # official defaults; no file tells them

# What describes the network, in ``ModelConfig``, in a card and in ``IICS``.
_OPTIONS = ("backbone", "last_stride")


def iics_card(config: IICSConfig, network: IICS) -> dict[str, Any]:
    """Return what ``load_network`` must know beside the tensors, for the card of a weights file."""
    options = to_dict(config.model)
    values = {name: options[name] for name in _OPTIONS}
    values["embedding_dim"] = network.embedding_dim
    card = network_card(
        "iics", __version__, network=values, data=config.data, augment=config.augment
    )
    return {**card, "variant": config.variant, "rerank": config.rerank}


def load_network(path: str | Path, *, last_stride: Literal[1, 2] = 1) -> LoadedNetwork:
    """Load the backbone; there is nothing else at test time.

    Args:
        path: A run folder, a ``model.safetensors`` of ours, or a checkpoint of the official code
            (told apart by their contents; nothing in them is executed).
        last_stride: Of an official checkpoint, which does not tell it; ours do.

    Raises:
        CheckpointError: When the file is missing, damaged, unsafe, or another method's.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".safetensors":
        return load_own_network(path, method="iics", build=_build)
    checkpoint = read_official(path)
    return LoadedNetwork(
        method="iics",
        network=checkpoint.inference_network(last_stride=last_stride),
        source=path,
        height=_OFFICIAL_HEIGHT,
        width=_OFFICIAL_WIDTH,
        card={"method": "iics", "origin": "official IICS checkpoint"},
        interpolation="bicubic",
    )


def export_official(arguments: ExportArguments) -> Path:
    """Write a run's network in the layout of the official checkpoints.

    Args:
        arguments: ``weights`` must be a run folder: the head of stage 2 is in its ``last.pt``.

    Returns:
        The file written.

    Raises:
        CheckpointError: When there is no training state, it does not fit its settings, or it was
            left before the first step of stage 2 of a cycle.
        OutputError: When the file cannot be written.
        MemoryLimitError: When it would need more memory than it may have.
    """
    folder = arguments.weights
    config, checkpoint = read_training_state(
        arguments, IICSConfig, holds="the classifier of stage 2"
    )
    network = build_network(config, weights="none")
    hint = "config.json and last.pt of the folder belong to different runs."
    load_state(network, checkpoint.objects["model"], source=f"model in {folder}", hint=hint)
    stage = Stage(network, config)
    stage.load_state_dict(checkpoint.objects["stage"])
    untrained = (checkpoint.epoch, checkpoint.step) == (stage.first, 0)  # its labels were just made
    if stage.first < 0 or stage.name == "intra" or untrained:
        raise CheckpointError(
            f"the run in {folder} was stopped in stage 1; official checkpoints hold the classifier "
            f"of stage 2. Continue it with iics-train --resume {folder}, at least to the end of "
            "the cycle"
        )
    path = official_path(arguments, suffix=".pth.tar")
    save_official(
        path,
        network,
        next(iter(stage.heads)),
        cycles=checkpoint.epoch // config.epochs_per_cycle,  # that are finished
        rank1=max(0.0, checkpoint.objects["best"]["rank1"]),  # -1: not evaluated yet
    )
    return path


def build_network(config: IICSConfig, *, weights: str) -> IICS:
    """Build the network that the settings describe.

    Args:
        config: Everything about the network but its start.
        weights: Start of the backbone, as ``config.model.weights``.
    """
    model = config.model
    return IICS(
        backbone=model.backbone,
        last_stride=model.last_stride,
        aibn_init=model.aibn_init,
        weights=weights,
    )


def _build(network: Mapping[str, Any]) -> IICS:
    return IICS(**{name: network[name] for name in _OPTIONS})
