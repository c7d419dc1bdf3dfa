"""A network that is ready to embed images, with what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from reid_core.config import DataConfig, FlipTest
from reid_core.data.augment_config import IMAGENET_MEAN, IMAGENET_STD, AugmentConfig, Channels
from reid_core.data.images import Interpolation
from reid_core.engine.weights import read_weights
from reid_core.errors import CheckpointError
from reid_core.models.embedding import FlipEmbedding, choose_feature, companion_sizes
from reid_core.models.loading import load_state

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
        interpolation: Filter with which its images were resized.
        flip: What becomes of mirror images in the method's evaluation.
    """

    method: str
    network: nn.Module
    source: Path
    height: int
    width: int
    card: Mapping[str, Any]
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    interpolation: Interpolation = "bilinear"
    flip: FlipTest = "sum"

    def choose(self, *, feature: str = "", flip: str = "auto") -> LoadedNetwork:
        """Return the network with other test-time choices.

        Args:
            feature: The one of the network's features, or the group of its parts, that is wanted;
                empty for the headline.
            flip: A ``FlipTest``, or ``auto`` for that of the method.

        Raises:
            ConfigError: The network has no feature of this name.
        """
        chosen: FlipTest = self.flip if flip == "auto" else _one_of(flip, FlipTest)
        return replace(self, network=choose_feature(self.network, feature), flip=chosen)

    def inference_model(self) -> InferenceModel:
        """Return the network as one module from pixels to unit features."""
        return InferenceModel(self.network, mean=self.mean, std=self.std, flip=self.flip).eval()


class InferenceModel(nn.Module):
    """From pixels in [0, 1] to unit features: normalisation, network, mirror image, length 1.

    Args:
        network: Module with ``embed``.
        mean: Per channel.
        std: Per channel.
        flip: What becomes of the mirror image.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, *, mean: Channels, std: Channels, flip: FlipTest = "sum"
    ) -> None:
        super().__init__()
        self.network = network  # first: exported files name their tensors by it
        self.features = FlipEmbedding(network, flip)  # type: ignore[arg-type]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(
        self,
        images: Tensor,
        infrared: Tensor | None = None,
        *,
        lr_face: Tensor | None = None,
        hr_face: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return (B, D) float32 features of length 1, or whose parts are (``FlipEmbedding``).

        Args:
            images: (B, 3, H, W) float32, RGB in [0, 1].
            infrared: (B,) bool, true for infrared images; for cross-modal networks only.
            lr_face: (B, 3, h, w) float32, RGB in [0, 1], of the size in ``companion_sizes``; all
                zero for images that have none. This and the next two for networks that look at
                them only.
            hr_face: The same.
            mask: The same.
        """
        others = [] if infrared is None else [infrared]
        given = {"lr_face": lr_face, "hr_face": hr_face, "mask": mask}
        for kind in companion_sizes(self.network):
            pictures = given[kind]
            if pictures is None:
                raise ValueError(f"the network looks at {kind} beside the images; give it, too")
            # A branch would be frozen by an export.
            present = pictures.flatten(1).any(1)[:, None, None, None]  # (B, 1, 1, 1)
            others.append(torch.where(present, self._normalize(pictures), 0.0))
        return self.features(self._normalize(images), *others)  # type: ignore[no-any-return]

    def _normalize(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


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
        data: Size of the images, filter of the resize, use of mirror images.
        augment: Their mean and standard deviation.
    """
    return {
        "method": method,
        "version": version,
        "network": dict(network),
        "input": {
            "height": data.height,
            "width": data.width,
            "interpolation": data.interpolation,
            "mean": list(augment.mean),
            "std": list(augment.std),
        },
        "flip": data.flip,
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
        # Cards of older versions do not say these two: they had no choice.
        interpolation = _one_of(image.get("interpolation", "bilinear"), Interpolation)
        flip = _one_of(card.get("flip", "sum"), FlipTest)
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
        interpolation=interpolation,
        flip=flip,
    )


def _one_of(value: object, choices: Any) -> Any:
    """Return a value of a ``Literal``.

    Raises:
        ValueError: It is none.
    """
    if value not in get_args(choices):
        raise ValueError(f"{value!r} is none of {', '.join(map(repr, get_args(choices)))}")
    return value
