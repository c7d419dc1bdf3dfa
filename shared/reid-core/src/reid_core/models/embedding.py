"""What a network offers at test time: features of images, perhaps of two modalities, mirrored.

A network has ``embed``. Two class attributes tell what else it has:

- ``cross_modal = True``: it treats visible and infrared images differently. ``embed``, and
  ``embed_each`` where there is one, take ``infrared`` too: (B,) bool, true for infrared images.
- ``feature_names = ("fc", "pool")``: it has several features. ``embed_each`` returns all of them,
  ``embed`` the first one, which is the headline of its results.

Legend: B images of a batch, H x W pixels, F features of D numbers each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from reid_core.config import FlipTest
from reid_core.errors import ConfigError
from reid_core.precision import in_float32

__all__ = [
    "ChosenFeature",
    "CrossModalEmbedder",
    "Embedder",
    "FlipEmbedding",
    "all_features",
    "choose_feature",
    "feature_names",
    "is_cross_modal",
]


class Embedder(Protocol):
    """A network that turns images into what is compared at test time."""

    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings (B, D), not normalised, of images (B, 3, H, W)."""
        ...


class CrossModalEmbedder(Protocol):
    """A network that does so by modality."""

    cross_modal: bool

    def embed(self, images: Tensor, infrared: Tensor) -> Tensor:
        """Return embeddings (B, D), not normalised, of images (B, 3, H, W).

        Args:
            images: Normalised.
            infrared: (B,) bool on the images' device, true for infrared images.
        """
        ...


def is_cross_modal(network: object) -> bool:
    """Tell whether a network is to be told which images are infrared."""
    return bool(getattr(network, "cross_modal", False))


def feature_names(network: object) -> tuple[str, ...]:
    """Return the names of a network's features, the headline first; none where it has one only."""
    return tuple(getattr(network, "feature_names", ()))


def all_features(network: object) -> Callable[..., Tensor]:
    """Return ``embed_each``, which gives all features; of a network with one only, ``embed``."""
    method: Any = getattr(network, "embed_each" if feature_names(network) else "embed")
    return method  # type: ignore[no-any-return]


def choose_feature(network: nn.Module, name: str) -> nn.Module:
    """Return a network that has one of a network's features only.

    Args:
        network: Module with ``embed``.
        name: One of its ``feature_names``; empty for the headline.

    Raises:
        ConfigError: It has no feature of this name.
    """
    names = feature_names(network)
    if name and name not in names:
        has = f"its features are {', '.join(names)}" if names else "it has one feature only"
        raise ConfigError(f"the network has no feature {name!r}; {has}")
    return ChosenFeature(network, names.index(name) if name else 0) if names else network


class ChosenFeature(nn.Module):
    """One of a network's features, as a network of its own.

    Attributes:
        feature: Name of the feature.

    Args:
        network: Module with ``embed`` and ``embed_each``.
        index: Position of the feature in its ``feature_names``.
    """

    def __init__(self, network: nn.Module, index: int) -> None:
        super().__init__()
        self.network = network
        self.index = index
        self.feature = feature_names(network)[index]
        self.cross_modal = is_cross_modal(network)

    def embed(self, images: Tensor, *infrared: Tensor) -> Tensor:
        """Return embeddings (B, D), not normalised; arguments as those of the network."""
        if self.index == 0:
            return self.network.embed(images, *infrared)  # type: ignore[operator,no-any-return]
        return self.network.embed_each(images, *infrared)[:, self.index]  # type: ignore[operator,no-any-return]


class FlipEmbedding(nn.Module):
    """The test feature of a network, of image and mirror image, as one exportable module.

    Args:
        network: Module with ``embed``; put into eval mode by ``.eval()`` on either.
        flip: What becomes of the mirror image, see ``FlipTest``; ``sum`` is
            normalize(f(x) + f(mirrored x)).
    """

    def __init__(self, network: Embedder | CrossModalEmbedder, flip: FlipTest = "sum") -> None:
        super().__init__()
        self.network = network
        self.flip = flip

    def forward(self, images: Tensor, *infrared: Tensor) -> Tensor:
        """Return unit embeddings (B, D) of normalised images (B, 3, H, W).

        Args:
            images: Normalised.
            infrared: (B,) bool; of cross-modal networks only.
        """
        embed: Callable[..., Tensor] = self.network.embed
        features = embed(images, *infrared)
        if self.flip == "none":
            return _unit(features)
        mirrored = embed(images.flip(3), *infrared)
        if self.flip == "mean":
            return _unit_sum(_unit(features), _unit(mirrored))
        return _unit_sum(features, mirrored)


@in_float32
def _unit_sum(first: Tensor, second: Tensor) -> Tensor:
    return F.normalize(first + second)


@in_float32
def _unit(features: Tensor) -> Tensor:
    return F.normalize(features)
