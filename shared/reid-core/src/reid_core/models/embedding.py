"""What a network offers at test time: features of images, perhaps of two modalities, mirrored.

A network has ``embed``. Attributes, of the class or of the network, tell what else it has:

- ``cross_modal = True``: it treats visible and infrared images differently. ``embed``, and
  ``embed_each`` where there is one, take ``infrared`` too: (B,) bool, true for infrared images.
- ``feature_names = ("fc", "pool")``: it has several features. ``embed_each`` returns all of them,
  ``embed`` the first one, which is the headline of its results.
- ``companions = {"lr_face": (224, 224)}``: beside each image it looks at further pictures of the
  same shot (``COMPANION_KINDS`` of ``reid_core.data.companions``), of this height and width.
  ``embed`` takes each as (B, 3, h, w), normalised like the images, after everything else and in
  this order. An image that has none gets a tensor that is exactly zero; which images those are is
  for the network to find out, on the device and without branches: it is traced for export, and
  run on PyTorch's meta device.
- ``part_groups = {"face": 7, "body": 7}``: its feature is made of parts of one size, of each group
  so many, in this order: ``embed`` returns (B, P D), part by part. Images are compared by the sum
  of the cosines of their parts, so each part is scaled to length 1 by itself; a part that is zero
  stays zero and adds nothing. A network with several groups has ``part_network(group)``: a network
  of that group alone, which shares its modules and says for itself what companions it looks at.

Legend: B images of a batch, H x W pixels, F features of D numbers each, P parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    "companion_sizes",
    "feature_names",
    "is_cross_modal",
    "mirror",
    "num_parts",
    "part_groups",
    "part_network",
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


def companion_sizes(network: object) -> Mapping[str, tuple[int, int]]:
    """Return height and width of the companions that a network looks at, by kind, in order."""
    return dict(getattr(network, "companions", {}))


def part_groups(network: object) -> Mapping[str, int]:
    """Return the numbers of parts of a network's feature by group, in order; none without parts."""
    return dict(getattr(network, "part_groups", {}))


def num_parts(network: object) -> int:
    """Return P, the number of parts that a network's feature is made of; 1 for a plain feature."""
    return sum(part_groups(network).values()) or 1


def part_network(network: nn.Module, group: str) -> nn.Module:
    """Return the network of one group of parts alone, which shares the network's modules."""
    if len(part_groups(network)) == 1:
        return network
    chosen: nn.Module = network.part_network(group)  # type: ignore[operator]
    return chosen


def choose_feature(network: nn.Module, name: str) -> nn.Module:
    """Return a network that has one of a network's features, or one group of its parts, only.

    Args:
        network: Module with ``embed``.
        name: One of its ``feature_names`` or ``part_groups``; empty for the headline.

    Raises:
        ConfigError: It has no feature of this name.
    """
    names, groups = feature_names(network), part_groups(network)
    if name and name not in (*names, *groups):
        accepted = ", ".join((*names, *groups))
        has = f"its features are {accepted}" if accepted else "it has one feature only"
        raise ConfigError(f"the network has no feature {name!r}; {has}")
    if name in groups:
        return part_network(network, name)
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
        self.companions = companion_sizes(network)

    def embed(self, images: Tensor, *others: Tensor) -> Tensor:
        """Return embeddings (B, D), not normalised; arguments as those of the network."""
        if self.index == 0:
            return self.network.embed(images, *others)  # type: ignore[operator,no-any-return]
        return self.network.embed_each(images, *others)[:, self.index]  # type: ignore[operator,no-any-return]


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

    def forward(self, images: Tensor, *others: Tensor) -> Tensor:
        """Return unit embeddings (B, D) of normalised images (B, 3, H, W).

        Of a network with parts each part is of length 1, and the whole of the square root of their
        number; parts that are zero stay zero.

        Args:
            images: Normalised.
            others: Of cross-modal networks ``infrared``, (B,) bool. Then the companions of the
                images, if the network looks at some; mirrored with the images.
        """
        embed: Callable[..., Tensor] = self.network.embed
        parts = num_parts(self.network)
        features = embed(images, *others)
        if self.flip == "none":
            return _unit(features, parts)
        mirrored = embed(*mirror((images, *others)))
        if self.flip == "mean":
            return _unit_sum(_unit(features, parts), _unit(mirrored, parts), parts)
        return _unit_sum(features, mirrored, parts)


def mirror(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return what ``embed`` takes with all pictures mirrored; modalities stay as they are."""
    return [value.flip(3) if value.ndim == 4 else value for value in inputs]


@in_float32
def _unit_sum(first: Tensor, second: Tensor, parts: int) -> Tensor:
    return _normalize(first + second, parts)


@in_float32
def _unit(features: Tensor, parts: int) -> Tensor:
    return _normalize(features, parts)


def _normalize(features: Tensor, parts: int) -> Tensor:
    if parts == 1:
        return F.normalize(features)
    return F.normalize(features.reshape(features.shape[0], parts, -1), dim=2).flatten(1)
