"""Networks small enough for every test, which have what networks may have."""

from __future__ import annotations

import torch
from torch import nn


class TwoStreams(nn.Module):
    """Two features, of visible and infrared images by weights of their own.

    The weights differ from left to right, so that a mirror image has another feature.
    """

    cross_modal = True
    feature_names = ("fc", "pool")

    def __init__(self, *, seed: int = 0, dim: int = 6) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        shape = (2, 3 * 8 * 4, dim)
        self.weight = nn.Parameter(torch.randn(shape, generator=generator) / 10)
        self.num_passes = 0

    def embed_each(self, images: torch.Tensor, infrared: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_compiling():
            self.num_passes += 1
        small = nn.functional.adaptive_avg_pool2d(images, (8, 4)).flatten(1)
        visible, thermal = small @ self.weight[0], small @ self.weight[1]
        pooled = torch.where(infrared[:, None], thermal, visible)
        return torch.stack([pooled, pooled**3], dim=1)

    def embed(self, images: torch.Tensor, infrared: torch.Tensor) -> torch.Tensor:
        return self.embed_each(images, infrared)[:, 0]


class OneStream(TwoStreams):
    """One feature, whatever the modality."""

    cross_modal = False
    feature_names = ()

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        nothing = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        return super().embed_each(images, nothing)[:, 0]


FACE_SIZE = (32, 24)


class InParts(nn.Module):
    """Two parts of a face crop and three of the image, each of ``dim`` numbers.

    Args:
        groups: Those of ``face`` and ``body`` that there are.
        shared: Another such network, whose weights are taken.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        dim: int = 4,
        groups: tuple[str, ...] = ("face", "body"),
        shared: InParts | None = None,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        parts = {"face": 2, "body": 3}
        self.part_groups = {group: parts[group] for group in groups}
        self.companions = {"lr_face": FACE_SIZE} if "face" in groups else {}
        if shared is not None:
            self.weights = shared.weights
            return
        self.weights = nn.ParameterDict(
            {
                group: torch.randn((3 * 8 * 4, parts[group] * dim), generator=generator)
                for group in groups
            }
        )

    def part_network(self, group: str) -> InParts:
        return InParts(groups=(group,), shared=self)

    def embed(self, images: torch.Tensor, *companions: torch.Tensor) -> torch.Tensor:
        assert len(companions) == len(self.companions)
        pictures = {"body": images, **dict(zip(("face",), companions, strict=False))}
        parts = []
        for group in self.part_groups:
            small = nn.functional.adaptive_avg_pool2d(pictures[group], (8, 4)).flatten(1)
            parts.append(small @ self.weights[group])
        return torch.cat(parts, dim=1)
