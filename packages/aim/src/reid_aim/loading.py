"""From any AIM weights file to a network that embeds images, and back to the official layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from reid_aim import __version__
from reid_aim.config import AIMConfig
from reid_aim.model import AIM, IDBranch
from reid_aim.weights import PARTS, read_official, save_official
from reid_core.commands.arguments import ExportArguments
from reid_core.commands.network import LoadedNetwork, load_own_network, network_card
from reid_core.commands.official import last_figures, official_path, read_training_state
from reid_core.models import load_state

__all__ = ["aim_card", "export_official", "load_network"]

_OFFICIAL_HEIGHT, _OFFICIAL_WIDTH = 384, 192  # all released weights were trained on these


def aim_card(config: AIMConfig, branch: IDBranch) -> dict[str, Any]:
    """Return what ``load_network`` must know beside the tensors, for the card of a weights file."""
    network = {
        "backbone": config.model.backbone,
        "pooling": config.model.pooling,
        "last_stride": config.model.last_stride,
        "embedding_dim": branch.embedding_dim,
    }
    return network_card(
        "aim", __version__, network=network, data=config.data, augment=config.augment
    )


def load_network(path: str | Path) -> LoadedNetwork:
    """Load AIM's test-time network (the identity branch).

    Args:
        path: A run folder, a ``model.safetensors`` of ours, or a checkpoint of the official AIM or
            CAL code (told apart by their contents; nothing in them is executed).

    Raises:
        CheckpointError: When the file is missing, damaged, unsafe, or another method's.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".safetensors":
        return load_own_network(path, method="aim", build=_branch)
    checkpoint = read_official(path)
    return LoadedNetwork(
        method="aim",
        network=checkpoint.id_branch(),
        source=path,
        height=_OFFICIAL_HEIGHT,
        width=_OFFICIAL_WIDTH,
        card={"method": "aim", "origin": f"official {checkpoint.method} checkpoint"},
    )


def export_official(arguments: ExportArguments) -> Path:
    """Write a run's whole network in the layout of the official checkpoints.

    Args:
        arguments: ``weights`` must be a run folder: all six parts are in its ``last.pt``.

    Returns:
        The file written.

    Raises:
        CheckpointError: When there is no training state, or it does not fit its settings.
        OutputError: When the file cannot be written.
        MemoryLimitError: When it would need more memory than it may have.
    """
    folder = arguments.weights
    config, checkpoint = read_training_state(arguments, AIMConfig, holds="all six networks")
    parts = {name: checkpoint.objects[name] for name in PARTS}
    network = _build(config, parts)
    for name, state in parts.items():
        load_state(
            network.get_submodule(name),
            state,
            source=f"{name} in {folder}",
            hint="config.json and last.pt of the folder belong to different runs.",
        )
    path = official_path(arguments, suffix=".pth.tar")
    figures = last_figures(folder, ("cloth_changing",))
    rank1 = float(figures.get("rank1", 0.0))
    save_official(path, network, rank1=rank1, epoch=checkpoint.epoch - 1)
    return path


def _branch(network: Mapping[str, Any]) -> IDBranch:
    return IDBranch(
        network["backbone"], pooling=network["pooling"], last_stride=network["last_stride"]
    )


def _build(config: AIMConfig, parts: Mapping[str, Mapping[str, Tensor]]) -> AIM:
    classifier = parts["classifier"]
    cosine = "weight" in classifier
    rows = classifier["weight" if cosine else "classifier.weight"]
    return AIM(
        len(rows),
        len(parts["clothes_classifier"]["weight"]),
        backbone=config.model.backbone,
        pooling=config.model.pooling,
        last_stride=config.model.last_stride,
        cosine_identity=cosine,
    )
