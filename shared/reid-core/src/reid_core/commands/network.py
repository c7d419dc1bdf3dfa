"""A network that is ready to embed images, with what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid_core.data.augment_config import IMAGENET_MEAN, IMAGENET_STD, Channels
from reid_core.models.embedding import FlipEmbedding
from reid_core.precision import in_float32

__all__ = ["InferenceModel", "LoadedNetwork"]


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


@in_float32
def _unit(features: Tensor) -> Tensor:
    return nn.functional.normalize(features)
