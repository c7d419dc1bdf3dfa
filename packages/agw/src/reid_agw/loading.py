"""From any AGW weights file to a network that embeds images, and back to the official layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reid_agw import __version__
from reid_agw.config import AGWConfig
from reid_agw.model import AGW
from reid_agw.weights import Figures, read_official, save_official
from reid_core.commands.arguments import ExportArguments
from reid_core.commands.network import LoadedNetwork, load_own_network, network_card
from reid_core.commands.official import last_figures, official_path, read_training_state
from reid_core.config import to_dict
from reid_core.models import ResNetTrunk, load_state

__all__ = ["agw_card", "build_network", "export_official", "load_network"]

_OFFICIAL_HEIGHT, _OFFICIAL_WIDTH = 288, 144  # the official code knows no other

# What describes the network, in ``ModelConfig``, in a card and in ``AGW``.
_OPTIONS = (
    "backbone",
    "last_stride",
    "pooling",
    "gem_p",
    "learn_gem",
    "non_local",
    "nonlocal_ratio",
)

# Protocols by which the official code tests while it trains, one per data set.
_TESTED = ("all_search", "visible_to_thermal", "vis2ir")
_OFFICIAL_RANKS = 20


def agw_card(config: AGWConfig, network: AGW) -> dict[str, Any]:
    """Return what ``load_network`` must know beside the tensors, for the card of a weights file."""
    options = to_dict(config.model)
    values = {name: options[name] for name in _OPTIONS}
    values["embedding_dim"] = network.embedding_dim
    return network_card(
        "agw", __version__, network=values, data=config.data, augment=config.augment
    )


def load_network(path: str | Path) -> LoadedNetwork:
    """Load AGW's test-time network: both first stages, trunk and neck, without the classifier.

    Args:
        path: A run folder, a ``model.safetensors`` of ours, or a checkpoint of the official code
            (told apart by their contents; nothing in them is executed).

    Raises:
        CheckpointError: When the file is missing, damaged, unsafe, or another method's.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".safetensors":
        return load_own_network(path, method="agw", build=_build)
    checkpoint = read_official(path)
    return LoadedNetwork(
        method="agw",
        network=checkpoint.inference_network(),
        source=path,
        height=_OFFICIAL_HEIGHT,
        width=_OFFICIAL_WIDTH,
        card={"method": "agw", "origin": "official AGW checkpoint"},
        interpolation="lanczos",
        flip="none",
    )


def export_official(arguments: ExportArguments) -> Path:
    """Write a run's network in the layout of the official checkpoints.

    Args:
        arguments: ``weights`` must be a run folder: the classifier is in its ``last.pt``.

    Returns:
        The file written.

    Raises:
        CheckpointError: When there is no training state, it does not fit its settings, or the
            official code has no such network.
        OutputError: When the file cannot be written.
        MemoryLimitError: When it would need more memory than it may have.
    """
    folder = arguments.weights
    config, checkpoint = read_training_state(arguments, AGWConfig, holds="the classifier")
    state = checkpoint.objects["model"]
    network = build_network(config, len(state["classifier.weight"]), weights="none")
    hint = "config.json and last.pt of the folder belong to different runs."
    load_state(network, state, source=f"model in {folder}", hint=hint)
    found = last_figures(folder, _TESTED)
    figures = Figures(
        cmc=_known_ranks(found),
        mean_ap=found.get("mAP"),
        mean_inp=found.get("mINP"),
        epoch=checkpoint.epoch - 1,
    )
    path = official_path(arguments, suffix=".t")
    save_official(
        path,
        network,
        figures,
        # What takes no part stays at the start weights in the official code.
        unused=ResNetTrunk(config.model.backbone, weights=config.model.weights),
    )
    return path


def build_network(config: AGWConfig, num_pids: int, *, weights: str) -> AGW:
    """Build the network that the settings describe, with a classifier.

    Args:
        config: Everything about the network but its start.
        num_pids: Rows of the classifier.
        weights: Start of the backbone, as ``config.model.weights``.
    """
    options = to_dict(config.model)
    return AGW(num_pids, weights=weights, **{name: options[name] for name in _OPTIONS})


def _known_ranks(figures: Mapping[str, Any]) -> tuple[float, ...]:
    """Return 20 ranks; one that was not recorded gets the nearest recorded one before it."""
    if not figures:
        return ()
    cmc: list[float] = []
    for rank in range(1, _OFFICIAL_RANKS + 1):
        before = cmc[-1] if cmc else 0.0
        cmc.append(float(figures.get(f"rank{rank}", before)))
    return tuple(cmc)


def _build(network: Mapping[str, Any]) -> AGW:
    return AGW(None, **{name: network[name] for name in _OPTIONS})
