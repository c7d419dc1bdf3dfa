"""The IICS network and the heads of its two stages.

The network is the backbone alone: it is what is kept from stage to stage, and exported. Heads are
made anew for every stage. Parameter names are those of the official release, where the network has
``model.`` in front and a head ``classifier.``.
Legend: B batch, C features, K classes of a head, H W height and width of an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn

from reid_core.errors import ConfigError
from reid_core.models.init import init_linear
from reid_core.models.necks import BNNeck
from reid_core.models.pooling import build_pooling
from reid_core.models.resnet import BackboneName, ResNetTrunk
from reid_core.precision import in_float32
from reid_iics.aibn import AIBN, share_mixing

__all__ = ["IICS", "Head", "Heads"]


class IICS(nn.Module):
    """Intra-Inter Camera Similarity (Xuan, Zhang, CVPR 2021): a ResNet with AIBN, mean-pooled.

    Batch normalisation in stem, ``layer1`` and ``layer2``; AIBN, one mixing weight per residual
    block, in ``layer3`` and ``layer4``. Nothing is frozen. Its output is what is clustered, what
    the triplet loss and the heads get, and the embedding.

    In evaluation mode AIBN still uses the statistics of each image, so no normalisation can be
    folded into a convolution; features do not depend on the rest of the batch.

    Attributes:
        model: The trunk, under its official name.
        embedding_dim: C, 2048 for resnet50, else 512.

    Args:
        backbone: Name of the ResNet; the official one is resnet50, with 23,508,041 parameters.
        last_stride: Stride of the last stage.
        aibn_init: Initial mixing weight of AIBN in [0, 1]: share of the batch's statistics.
        weights: Start weights of the ResNet: ``none``, ``imagenet`` or a file; with the layout of
            torchvision's. AIBN takes scale, shift and running statistics of the batch norm in its
            place.

    Raises:
        ConfigError: When an argument is out of range, or there are no ImageNet weights for the
            backbone.
        CheckpointError: When the weights cannot be had or do not fit.
    """

    def __init__(
        self,
        *,
        backbone: BackboneName = "resnet50",
        last_stride: Literal[1, 2] = 1,
        aibn_init: float = 0.1,
        weights: str | Path = "none",
    ) -> None:
        super().__init__()

        def aibn(norm: nn.BatchNorm2d) -> AIBN:
            return AIBN.from_batchnorm(norm, init=aibn_init)

        self.model = ResNetTrunk(
            backbone,
            last_stride=last_stride,
            weights=weights,
            norms={"layer3": aibn, "layer4": aibn},
        )
        for block in (*self.model.layer3, *self.model.layer4):
            share_mixing(block, init=aibn_init)
        self.embedding_dim = self.model.num_features
        self.pool = build_pooling("avg")

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, C) float32, not normalised, of normalised images (B, 3, H, W).

        In training mode the batch must be what statistics are to be taken of: of one camera in the
        intra-camera stage.

        Raises:
            ConfigError: When the images are so small that AIBN's map has one position.
        """
        features: Tensor = self.pool(self.model.feature_map(images))
        return features

    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings (B, C) float32, not normalised, of normalised images (B, 3, H, W).

        The published test feature is the normalised sum over an image and its mirror image:
        ``reid_core.models.FlipEmbedding``.

        Raises:
            RuntimeError: In training mode, where batch statistics would be used and changed.
        """
        if self.training:
            raise RuntimeError("embed() needs evaluation mode; call .eval() on the network first")
        return cast(Tensor, self(images))

    def embed_flipped(self, images: Tensor) -> Tensor:
        """Return (f(x) + f(mirrored x)) / 2, (B, C) float32, not normalised.

        Its direction is what is clustered and tested; as it is, it is what the heads score.

        Args:
            images: (B, 3, H, W) float, normalised.

        Raises:
            RuntimeError: In training mode.
        """
        return (self.embed(images) + self.embed(images.flip(3))) / 2


class Head(nn.Sequential):
    """The classifier of one camera's clusters, or of all: batch norm with a fixed shift, linear.

    The batch norm starts at scale 1 and shift 0, the linear layer, without bias, at N(0, 0.001^2).
    Float32 under autocast.

    Args:
        dim: C.
        num_classes: K.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        linear = nn.Linear(dim, num_classes, bias=False)
        init_linear(linear)
        super().__init__(BNNeck(dim, trained_shift=False), linear)

    @in_float32
    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, K) of features (B, C), not normalised."""
        norm, linear = self
        logits: Tensor = linear(norm(features))
        return logits


class Heads(nn.ModuleList):
    """The heads of the intra-camera stage, one per camera in the order of the training list.

    Args:
        dim: C.
        num_classes: K of each camera's head: how many clusters its images form.

    Raises:
        ConfigError: When there is no head.
    """

    def __init__(self, dim: int, num_classes: Sequence[int]) -> None:
        if not num_classes:
            raise ConfigError("the intra-camera stage needs a head for at least one camera")
        super().__init__(Head(dim, number) for number in num_classes)

    def __iter__(self) -> Iterator[Head]:
        """Iterate over the heads, camera by camera."""
        return cast("Iterator[Head]", super().__iter__())

    def scores(self, features: Tensor) -> Tensor:
        """Return what all heads say of each image: their soft-maxes side by side.

        Each row sums to the number of heads. Features are scored as they are, before any
        normalisation, with the running statistics of the heads (official).

        Args:
            features: (B, C) float, from ``IICS.embed_flipped``, of any camera.

        Returns:
            (B, sum of all K) float32.

        Raises:
            RuntimeError: In training mode, where batch statistics would be used and changed.
        """
        if self.training:
            raise RuntimeError("scores() needs evaluation mode; call .eval() on the heads first")
        return torch.cat([head(features).softmax(dim=1) for head in self], dim=1)
