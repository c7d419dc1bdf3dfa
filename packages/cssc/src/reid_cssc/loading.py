"""From any CSSC weights file to a network that embeds images, and back to the official layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reid_core.commands.arguments import ExportArguments
from reid_core.commands.network import LoadedNetwork, load_own_network, network_card
from reid_core.commands.official import last_figures, official_path, read_training_state
from reid_core.errors import CheckpointError
from reid_core.models import load_state
from reid_cssc import __version__
from reid_cssc.config import CSSCConfig
from reid_cssc.model import CSSC
from reid_cssc.weights import read_official, save_official

__all__ = ["cssc_card", "export_official", "load_network"]

_OFFICIAL_HEIGHT, _OFFICIAL_WIDTH = 384, 192  # defaults of the official code; no file says it


def cssc_card(config: CSSCConfig, network: CSSC) -> dict[str, Any]:
    """Return what ``load_network`` must know beside the tensors, for the card of a weights file."""
    values = {
        "backbone": config.model.backbone,
        "last_stride": config.model.last_stride,
        "embedding_dim": network.embedding_dim,
    }
    return network_card(
        "cssc", __version__, network=values, data=config.data, augment=config.augment
    )


def load_network(path: str | Path) -> LoadedNetwork:
    """Load CSSC's test-time network: backbone and gates, without training heads.

    Args:
        path: A run folder, a ``model.safetensors`` of ours, or a checkpoint of the official code
            (told apart by their contents; nothing in them is executed).

    Raises:
        CheckpointError: When the file is missing, damaged, unsafe, or another method's.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".safetensors":
        return load_own_network(path, method="cssc", build=_build)
    checkpoint = read_official(path)
    return LoadedNetwork(
        method="cssc",
        network=checkpoint.inference_network(),
        source=path,
        height=_OFFICIAL_HEIGHT,
        width=_OFFICIAL_WIDTH,
        card={"method": "cssc", "origin": "official CSSC checkpoint"},
    )


def export_official(arguments: ExportArguments) -> Path:
    """Write a run's network and optimiser in the layout of the official checkpoints.

    Args:
        arguments: ``weights`` must be a run folder: heads and optimiser are in its ``last.pt``.

    Returns:
        The file written.

    Raises:
        CheckpointError: When there is no training state, it does not fit its settings, or it was
            not trained with Adam.
        OutputError: When the file cannot be written.
        MemoryLimitError: When it would need more memory than it may have.
    """
    folder = arguments.weights
    holds = "the training heads and Adam's state"
    config, checkpoint = read_training_state(arguments, CSSCConfig, holds=holds)
    if config.optim.name != "adam":
        raise CheckpointError(
            f"{folder} was trained with {config.optim.name}, but the official layout holds Adam's "
            "state; export it as onnx or pt2, or use its model.safetensors"
        )
    state = checkpoint.objects["model"]
    network = CSSC(
        len(state["classifier.weight"]),
        backbone=config.model.backbone,
        last_stride=config.model.last_stride,
    )
    hint = "config.json and last.pt of the folder belong to different runs."
    load_state(network, state, source=f"model in {folder}", hint=hint)
    path = official_path(arguments, suffix=".pth")
    figures = last_figures(folder, ("standard", "same_clothes"))
    save_official(
        path,
        network,
        checkpoint.objects["optimizer"],
        rank1=float(figures.get("rank1", 0.0)),
        mean_ap=float(figures.get("mAP", 0.0)),
        epoch=checkpoint.epoch - 1,
    )
    return path


def _build(network: Mapping[str, Any]) -> CSSC:
    return CSSC(None, backbone=network["backbone"], last_stride=network["last_stride"])
