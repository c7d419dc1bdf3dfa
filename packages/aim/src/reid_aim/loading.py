"""From any AIM weights file to a network that embeds images, and back to the official layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_aim import __version__
from reid_aim.config import AIMConfig
from reid_aim.model import AIM, IDBranch
from reid_aim.weights import PARTS, read_official, save_official
from reid_core.commands.arguments import ExportArguments
from reid_core.commands.budget import open_plan
from reid_core.commands.network import LoadedNetwork
from reid_core.config import load_config
from reid_core.engine.checkpoint import read_checkpoint
from reid_core.engine.distributed import World
from reid_core.engine.folder import CHECKPOINT_NAME
from reid_core.engine.weights import read_weights
from reid_core.errors import CheckpointError
from reid_core.models import load_state

__all__ = ["export_official", "load_network", "network_card", "official_path"]

_OFFICIAL_HEIGHT, _OFFICIAL_WIDTH = 384, 192  # all released weights were trained on these


def network_card(config: AIMConfig, branch: IDBranch) -> dict[str, Any]:
    """Return what ``load_network`` must know beside the tensors, for the card of a weights file."""
    return {
        "method": "aim",
        "version": __version__,
        "network": {
            "backbone": config.model.backbone,
            "pooling": config.model.pooling,
            "last_stride": config.model.last_stride,
            "embedding_dim": branch.embedding_dim,
        },
        "input": {
            "height": config.data.height,
            "width": config.data.width,
            "mean": list(config.augment.mean),
            "std": list(config.augment.std),
        },
    }


def load_network(path: str | Path) -> LoadedNetwork:
    """Load AIM's test-time network (the identity branch).

    Args:
        path: A run folder, a ``model.safetensors`` of ours, or a checkpoint of the official AIM or
            CAL code (told apart by their contents; nothing in them is executed).

    Raises:
        CheckpointError: When the file is missing, damaged, unsafe, or another method's.
    """
    path = Path(path)
    if not path.is_dir() and path.suffix != ".safetensors":
        checkpoint = read_official(path)
        return LoadedNetwork(
            method="aim",
            network=checkpoint.id_branch(),
            source=path,
            height=_OFFICIAL_HEIGHT,
            width=_OFFICIAL_WIDTH,
            card={"method": "aim", "origin": f"official {checkpoint.method} checkpoint"},
        )
    state, card = read_weights(path, method="aim")
    try:
        network, image = card["network"], card["input"]
        branch = IDBranch(
            network["backbone"], pooling=network["pooling"], last_stride=network["last_stride"]
        )
        height, width = int(image["height"]), int(image["width"])
        mean, std = tuple(map(float, image["mean"])), tuple(map(float, image["std"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the card of {path} does not describe an AIM network ({error!r}); use weights written "
            "by aim-train"
        ) from error
    load_state(branch, state, source=str(path), hint="Its card must belong to another file.")
    return LoadedNetwork(
        method="aim",
        network=branch.eval(),
        source=path,
        height=height,
        width=width,
        card=card,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )


def official_path(arguments: ExportArguments) -> Path:
    """Return the file that an official export writes."""
    folder = arguments.weights if arguments.weights.is_dir() else arguments.weights.parent
    return arguments.out or folder / "official.pth.tar"


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
    if not (folder / CHECKPOINT_NAME).is_file():
        raise CheckpointError(
            f"{folder} is no run folder with a {CHECKPOINT_NAME}: the official layout holds all "
            "six networks of the training, so it can only be written from a run folder"
        )
    config = load_config(AIMConfig, folder)
    if config.select == "best":
        raise CheckpointError(
            f"{folder} kept the best epoch's identity network only (select=best), but the official "
            "layout needs all six networks of one epoch; train with --select last to export it"
        )
    plan = open_plan("export", arguments.memory_limit, torch.device("cpu"), World())
    size = (folder / CHECKPOINT_NAME).stat().st_size
    plan.add("the training state, and the networks made from it", 2 * size)
    plan.require("export")
    checkpoint = read_checkpoint(folder / CHECKPOINT_NAME)
    parts = {name: checkpoint.objects[name] for name in PARTS}
    network = _build(config, parts)
    for name, state in parts.items():
        load_state(
            network.get_submodule(name),
            state,
            source=f"{name} in {folder}",
            hint="config.json and last.pt of the folder belong to different runs.",
        )
    path = official_path(arguments)
    save_official(path, network, rank1=_rank1(folder), epoch=checkpoint.epoch - 1)
    return path


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


def _rank1(folder: Path) -> float:
    """Return the cloth-changing rank-1 that the run ended with; 0 where it never got there."""
    from reid_core.report import read_metrics

    for record in reversed(read_metrics(folder / "metrics.jsonl")):
        for name, figures in record.get("results", {}).items():
            if name.endswith("/cloth_changing"):
                return float(figures["rank1"])
    return 0.0
