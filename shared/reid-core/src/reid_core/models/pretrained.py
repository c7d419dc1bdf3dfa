"""Start weights of trunks: ImageNet through torchvision, or a file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from reid_core.engine.weights import read_torch_file
from reid_core.errors import CheckpointError, ConfigError
from reid_core.models.loading import load_state, strip_prefix

__all__ = ["load_backbone"]

logger = logging.getLogger(__name__)


def load_backbone(
    backbone: nn.Module,
    weights: str | Path,
    *,
    name: str,
    imagenet: WeightsEnum | None,
    heads: tuple[str, ...] = ("fc.",),
) -> None:
    """Load start weights into a trunk that has the keys of the library they come from.

    Args:
        backbone: Trunk without classifier.
        weights: ``none`` (leave it as it is), ``imagenet`` or a file.
        name: Name of the architecture, for messages.
        imagenet: torchvision's entry for it, or None where there is none.
        heads: Starts of the names of entries of the weights that are ignored.

    Raises:
        ConfigError: ``imagenet`` was asked for an architecture without such weights.
        CheckpointError: The file is missing, no state dict, or does not fit; or the download
            failed.
    """
    if str(weights) == "none":
        return
    if str(weights) == "imagenet":
        if imagenet is None:
            raise ConfigError(
                f"there are no ImageNet weights for {name}; use weights 'none' or a file, "
                "or a backbone with weights: resnet18, resnet34, resnet50"
            )
        state, source = _imagenet_state(imagenet), f"{imagenet} ({imagenet.url})"
    else:
        state, source = _file_state(Path(weights)), str(weights)
    trunk = {key: value for key, value in state.items() if not key.startswith(heads)}
    load_state(backbone, trunk, source=source, hint=f"Give weights of a {name}.")
    logger.info("loaded %s into %s", source, name)


def _imagenet_state(entry: WeightsEnum) -> Mapping[str, Tensor]:
    # PyTorch looks for the file here before it downloads.
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(entry.url).path).name)
    if cached.is_file():
        try:
            content: Mapping[str, Tensor] = read_torch_file(cached)
        except CheckpointError as error:
            raise CheckpointError(
                f"the cached ImageNet weights cannot be read; delete {cached} to have them "
                f"downloaded again. {error}"
            ) from error
        return content
    try:
        content = entry.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, HTTPException, RuntimeError) as error:
        raise CheckpointError(
            f"cannot download the ImageNet weights {entry.url}: {error}. Without a network, copy "
            f"the file to {cached}, or name it as the weights (--model.weights FILE), "
            "or start from random weights (--model.weights none)"
        ) from error
    return content


def _file_state(path: Path) -> Mapping[str, Tensor]:
    content: Any = (
        _read_safetensors(path) if path.suffix == ".safetensors" else read_torch_file(path)
    )
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not (
        isinstance(content, Mapping)
        and content
        and all(isinstance(value, Tensor) for value in content.values())
    ):
        raise CheckpointError(
            f"{path} holds no state dict (names with tensors), but a {type(content).__name__}; "
            "give a backbone's weights, e.g. torchvision's resnet50-0676ba61.pth"
        )
    return strip_prefix(content, "module.")


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the weights {path}: {error}") from error
