"""A network that is ready to embed images, with what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid_core.config import DataConfig
from reid_core.data.augment_config import IMAGENET_MEAN, IMAGENET_STD, AugmentConfig, Channels
from reid_core.engine.weights import read_weights
from reid_core.errors import CheckpointError
from reid_core.models.embedding import FlipEmbedding
from reid_core.models.loading import load_state
from reid_core.precision import in_float32

__all__ = ["InferenceModel", "LoadedNetwork", "load_own_network", "network_card"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedNetwork:
    """What a method's loader returns for a weights file.

    Attributes:
        method: Name of the method, e.g. ``aim``.
        network: Module with ``embed``, on the CPU, in evaluation mode.
        source: The file.
        height: Height of the images it was trained on, in pixels.
        width: Their width.
        card: What the file says of itself: version, preset, data set, results; may be empty.
        mean: Per channel, of values in [0, 1].
        std: Per channel, of values in [0, 1].
    """

    method: str
    network: nn.Module
    source: Path
    height: int
    width: int
    card: Mapping[str, Any]
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD

    def inference_model(self, *, flip: bool = True) -> InferenceModel:
        """Return the network as one module from pixels to unit features."""
        return InferenceModel(self.network, mean=self.mean, std=self.std, flip=flip).eval()


class InferenceModel(nn.Module):
    """From pixels in [0, 1] to unit features: normalisation, network, mirror image, length 1.

    Args:
        network: Module with ``embed``.
        mean: Per channel.
        std: Per channel.
        flip: Add the features of the mirror image before the length is made 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, *, mean: Channels, std: Channels, flip: bool = True
    ) -> None:
        super().__init__()
        self.network = network
        self.flipped = FlipEmbedding(network) if flip else None  # type: ignore[arg-type]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, D) float32 features of length 1 for (B, 3, H, W) RGB pixels in [0, 1]."""
        images = (images - self.mean) / self.std
        if self.flipped is not None:
            return self.flipped(images)  # type: ignore[no-any-return]
        return _unit(self.network.embed(images))  # type: ignore[operator]


def network_card(
    method: str,
    version: str,
    *,
    network: Mapping[str, Any],
    data: DataConfig,
    augment: AugmentConfig,
) -> dict[str, Any]:
    """Return what ``load_own_network`` must know beside the tensors, for a weights file's card.

    Args:
        method: Name of the method, e.g. ``aim``.
        version: Version of its package.
        network: What the method builds its test-time network from; plain JSON values.
        data: Size of the images.
        augment: Their mean and standard deviation.
    """
    return {
        "method": method,
        "version": version,
        "network": dict(network),
        "input": {
            "height": data.height,
            "width": data.width,
            "mean": list(augment.mean),
            "std": list(augment.std),
        },
    }


def load_own_network(
    path: Path, *, method: str, build: Callable[[Mapping[str, Any]], nn.Module]
) -> LoadedNetwork:
    """Load a test-time network from a run folder or a ``model.safetensors`` of ours.

    Args:
        path: Either of them.
        method: The method that the weights must belong to.
        build: From the card's ``network`` to a new test-time network.

    Raises:
        CheckpointError: When the file is missing, damaged, or another method's, or its card does
            not fit.
    """
    state, card = read_weights(path, method=method)
    try:
        network, image = build(card["network"]), card["input"]
        height, width = int(image["height"]), int(image["width"])
        mean, std = tuple(map(float, image["mean"])), tuple(map(float, image["std"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the card of {path} does not describe a network of {method} ({error!r}); use weights "
            f"written by {method}-train"
        ) from error
    load_state(network, state, source=str(path), hint="Its card must belong to another file.")
    return LoadedNetwork(
        method=method,
        network=network.eval(),
        source=path,
        height=height,
        width=width,
        card=card,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )


@in_float32
def _unit(features: Tensor) -> Tensor:
    return nn.functional.normalize(features)
