"""From any DeskPro weights file to a network that embeds images, and to the official layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from reid_core.commands.arguments import ExportArguments
from reid_core.commands.network import LoadedNetwork, load_own_network, network_card
from reid_core.commands.official import official_path, read_training_state
from reid_core.errors import CheckpointError
from reid_core.models import load_state
from reid_deskpro import __version__
from reid_deskpro.config import DeskProConfig
from reid_deskpro.model import DeskPro
from reid_deskpro.weights import read_official, save_official

__all__ = ["build_network", "deskpro_card", "export_official", "load_network"]

_OFFICIAL_HEIGHT, _OFFICIAL_WIDTH = 384, 128  # defaults of the official code; no file says it


def build_network(config: DeskProConfig, num_pids: int, *, weights: str) -> DeskPro:
    """Build the network of a training, on the device that PyTorch builds on.

    Args:
        config: Mode, width and size of the faces, and whether there is a teacher.
        num_pids: Number of identities.
        weights: Start of every OSNet, as ``config.model.weights``.
    """
    model = config.model
    return DeskPro(
        num_pids,
        mode=model.mode,
        teacher=config.uses_teacher,
        teacher_mode=config.loss.teacher_mode,
        width=model.width,
        osnet_variant=model.osnet,
        face_size=(model.face_height, model.face_width),
        weights=weights,
    )


def deskpro_card(config: DeskProConfig, network: DeskPro) -> dict[str, Any]:
    """Return what ``load_network`` must know beside the tensors, for the card of a weights file."""
    values = {
        "mode": config.model.mode,
        "width": config.model.width,
        "osnet": config.model.osnet,
        "face_height": config.model.face_height,
        "face_width": config.model.face_width,
        "embedding_dim": network.embedding_dim,
    }
    return network_card(
        "deskpro", __version__, network=values, data=config.data, augment=config.augment
    )


def load_network(path: str | Path) -> LoadedNetwork:
    """Load DeskPro's test-time network: its streams, without classifiers and without the teacher.

    Args:
        path: A run folder, a ``model.safetensors`` of ours, or a checkpoint of the official code
            (told apart by their contents; nothing in them is executed).

    Raises:
        CheckpointError: When the file is missing, damaged, unsafe, or another method's.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".safetensors":
        return load_own_network(path, method="deskpro", build=_build)
    checkpoint = read_official(path)
    return LoadedNetwork(
        method="deskpro",
        network=checkpoint.inference_network(),
        source=path,
        height=_OFFICIAL_HEIGHT,
        width=_OFFICIAL_WIDTH,
        card={"method": "deskpro", "origin": "official DeskPro checkpoint"},
        flip="none",
    )


def export_official(arguments: ExportArguments) -> Path:
    """Write a run's networks in the layout of the official checkpoints.

    Args:
        arguments: ``weights`` must be a run folder: classifiers and teacher are in its ``last.pt``.

    Returns:
        The file written.

    Raises:
        CheckpointError: When there is no training state, it does not fit its settings, or the
            official code has no such network.
        OutputError: When the file cannot be written.
        MemoryLimitError: When it would need more memory than it may have.
    """
    folder = arguments.weights
    holds = "the classifiers"
    config, checkpoint = read_training_state(arguments, DeskProConfig, holds=holds)
    state = checkpoint.objects["model"]
    classifier = next((key for key in state if key.endswith("classifier.weight")), None)
    if classifier is None:
        raise CheckpointError(f"model in {folder} has no classifier; it is no run of deskpro-train")
    network = build_network(config, len(state[classifier]), weights="none")
    hint = "config.json and last.pt of the folder belong to different runs."
    load_state(network, state, source=f"model in {folder}", hint=hint)
    path = official_path(arguments, suffix=".ckpt")
    save_official(
        path,
        network,
        epoch=checkpoint.epoch - 1,
        global_step=_num_steps(checkpoint.objects["optimizer"]),
    )
    return path


def _num_steps(optimizer: Mapping[str, Any]) -> int:
    """Return how many steps an Adam has made."""
    steps = [int(torch.as_tensor(state["step"])) for state in optimizer["state"].values()]
    return max(steps, default=0)


def _build(network: Mapping[str, Any]) -> DeskPro:
    return DeskPro(
        None,
        mode=network["mode"],
        width=network["width"],
        osnet_variant=network["osnet"],
        face_size=(int(network["face_height"]), int(network["face_width"])),
    )
