"""The CSSC network: SMR blocks, and CSSC itself, whose last stage is forked into two branches.

Parameter names are those of the official release, so that its state dicts load key by key.
Legend: B batch, C channels of a feature map, h w its height and width, P part width, N identities.
Under autocast the convolutions run in half precision; pooling, gates and heads are float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from reid_core.errors import ConfigError
from reid_core.models.init import init_linear
from reid_core.models.necks import BNNeck
from reid_core.models.pooling import build_pooling, pool_stripes
from reid_core.models.resnet import BackboneName, ResNetTrunk
from reid_core.precision import in_float32

__all__ = ["CSSC", "HEADS", "NUM_STRIPES", "SMR", "CSSCOutput", "SMROutput"]

HEADS = ("c_branch1", "cs_branch1", "s_branch2", "sc_branch2", "cssc")
"""The five heads in the order of all returned tuples: c content, s salient; cssc is the last."""

NUM_STRIPES = 8

_STRIPE_SHARE = 8  # width of a stripe's descriptor: C / 8, 256 for resnet50 (official)
_REDUCTION = 16  # hidden width of the gate: C / 16, 128 for resnet50 (official)


class SMROutput(NamedTuple):
    """What an SMR block returns.

    Attributes:
        feature_map: (B, C, h, w), re-weighted by the gate; what the next block gets.
        features: (B, C) float32, the pooled map before the gate and any normalisation.
        logits: (B, N) float32 of the mining head; None in evaluation mode or without a head.
    """

    feature_map: Tensor
    features: Tensor
    logits: Tensor | None


class SMR(nn.Module):
    """Semantics mining and refinement of a feature map.

    Mining, in training only: identity logits of the normalised global descriptor beside one
    projected descriptor per horizontal stripe, so that evidence is looked for everywhere.
    Refinement: a gate per channel, w = sigmoid(R2 relu(R1 g + b1) + b2) of the pooled descriptor g,
    multiplies the map. There is no skip around the gate. Both read the map as it came.

    Stripe i of 8 covers rows [i * (h // 8), (i + 1) * (h // 8)); surplus rows at the bottom belong
    to no stripe.

    Args:
        num_channels: C.
        pooling: ``avg`` (content) or ``max`` (salient), of the whole map and of the stripes.
        num_pids: N; None leaves the mining head out, as at test time.
        part_dim: P, width of a stripe's descriptor.
        reduction: C over the hidden width of the gate.
    """

    def __init__(
        self,
        num_channels: int,
        *,
        pooling: Literal["avg", "max"],
        num_pids: int | None,
        part_dim: int,
        reduction: int = _REDUCTION,
    ) -> None:
        super().__init__()
        self.pooling: Literal["avg", "max"] = pooling
        self.pool = build_pooling(pooling)
        if num_pids is not None:
            self.bottleneck = BNNeck(num_channels, trained_shift=False)
            self.l_conv_list = nn.ModuleList(
                nn.Sequential(
                    nn.Linear(num_channels, part_dim, bias=False), nn.BatchNorm1d(part_dim)
                )
                for _ in range(NUM_STRIPES)
            )
            dim = num_channels + NUM_STRIPES * part_dim
            self.classifier = nn.Linear(dim, num_pids, bias=False)
            init_linear(self.classifier)
        self.has_head = num_pids is not None
        self.refinement = nn.Sequential(
            nn.Linear(num_channels, num_channels // reduction),
            nn.ReLU(),
            nn.Linear(num_channels // reduction, num_channels),
            nn.Sigmoid(),
        )

    def forward(self, feature_map: Tensor) -> SMROutput:
        """Return the refined map, the pooled features and, in training, the logits.

        Args:
            feature_map: (B, C, h, w) float; h at least 8 in training.

        Raises:
            ConfigError: When there are fewer rows than stripes.
        """
        features: Tensor = self.pool(feature_map)  # (B, C)
        logits = None
        if self.training and self.has_head:
            logits = self._mine(features, self._pool_stripes(feature_map))
        gate = self.gate(features).to(feature_map.dtype)
        return SMROutput(gate[:, :, None, None] * feature_map, features, logits)

    @in_float32
    def gate(self, features: Tensor) -> Tensor:
        """Return the weight of each channel, (B, C) in (0, 1), from pooled features (B, C)."""
        weights: Tensor = self.refinement(features)
        return weights

    @in_float32
    def _mine(self, features: Tensor, stripes: Tensor) -> Tensor:
        """Return logits (B, N) of pooled features (B, C) and stripes (B, C, 8)."""
        parts = zip(self.l_conv_list, stripes.unbind(dim=2), strict=True)
        local = [project(stripe) for project, stripe in parts]  # 8 of (B, P)
        logits: Tensor = self.classifier(torch.cat([self.bottleneck(features), *local], dim=1))
        return logits

    def _pool_stripes(self, feature_map: Tensor) -> Tensor:
        height = feature_map.shape[2]
        if height < NUM_STRIPES:
            raise ConfigError(
                f"an SMR block cuts its feature map into {NUM_STRIPES} stripes, but the map has "
                f"{height} rows; use images at least 16 x {NUM_STRIPES} = 128 pixels high with "
                "last_stride=1, 256 with last_stride=2"
            )
        return pool_stripes(feature_map, NUM_STRIPES, pooling=self.pooling)


class CSSCOutput(NamedTuple):
    """What one forward pass of CSSC computes; tuples in the order of ``HEADS``.

    Attributes:
        features: Five of (B, C) float32, pooled, neither normalised nor gated; the last one is
            the embedding.
        logits: Five of (B, N) float32; None in evaluation mode or without training heads.
    """

    features: tuple[Tensor, ...]
    logits: tuple[Tensor, ...] | None


class CSSC(nn.Module):
    """Content and Salient Semantics Collaboration (Wang et al., ICASSP 2025).

    A ResNet whose last stage is forked: branch 1 refines content, then salient semantics, branch 2
    the other way round; the sum of both passes the last block and is max-pooled. Branch 2 starts as
    a copy of branch 1 and is trained on its own. Nothing is detached: every loss reaches every
    parameter before it, also through the gates.

    The published network forks the first two of resnet50's three last blocks. A trunk with two
    (resnet18) lacks the second block of the branches; with one (resnet10) both branches have that
    one and their sum is pooled directly.

    Attributes:
        embedding_dim: C, 2048 for resnet50, else 512.

    Args:
        num_pids: Identities in training; None builds the test-time network without training
            heads (36.1 instead of 54.3 million parameters for resnet50 and 77 identities).
        backbone: Name of the ResNet.
        last_stride: Stride of the last stage.
        weights: Start weights of the ResNet: ``none``, ``imagenet`` or a file.
    """

    def __init__(
        self,
        num_pids: int | None,
        *,
        backbone: BackboneName = "resnet50",
        last_stride: Literal[1, 2] = 1,
        weights: str | Path = "none",
    ) -> None:
        super().__init__()
        trunk = ResNetTrunk(backbone, last_stride=last_stride, weights=weights)
        self.embedding_dim = dim = trunk.num_features
        self.backbone_before_layer4 = nn.Sequential(
            trunk.conv1,
            trunk.bn1,
            trunk.relu,
            trunk.maxpool,
            trunk.layer1,
            trunk.layer2,
            trunk.layer3,
        )
        first, *others = trunk.layer4
        last = others.pop() if others else nn.Identity()
        second = others.pop() if others else nn.Identity()
        self.backbone_layer41_branch1 = first
        self.backbone_layer42_branch1 = second
        self.backbone_layer41_branch2 = deepcopy(first)
        self.backbone_layer42_branch2 = deepcopy(second)
        self.backbone_layer43 = last

        def smr(pooling: Literal["avg", "max"]) -> SMR:
            return SMR(dim, pooling=pooling, num_pids=num_pids, part_dim=dim // _STRIPE_SHARE)

        self.smr_c_branch1 = smr("avg")
        self.smr_s_branch1 = smr("max")
        self.smr_s_branch2 = smr("max")
        self.smr_c_branch2 = smr("avg")
        self.pool = build_pooling("max")
        if num_pids is not None:
            self.bottleneck = BNNeck(dim, trained_shift=False)
            self.classifier = nn.Linear(dim, num_pids, bias=False)
            init_linear(self.classifier)
        self.has_heads = num_pids is not None

    def forward(self, images: Tensor) -> CSSCOutput:
        """Run the network once.

        Args:
            images: (B, 3, H, W) float, normalised; H at least 128 with ``last_stride=1`` in
                training.
        """
        shared = self.backbone_before_layer4(images)  # (B, C/2, H/16, W/16)
        content1 = self.smr_c_branch1(self.backbone_layer41_branch1(shared))
        salient1 = self.smr_s_branch1(self.backbone_layer42_branch1(content1.feature_map))
        salient2 = self.smr_s_branch2(self.backbone_layer41_branch2(shared))
        content2 = self.smr_c_branch2(self.backbone_layer42_branch2(salient2.feature_map))
        fused = self.backbone_layer43(salient1.feature_map + content2.feature_map)
        features: Tensor = self.pool(fused)  # (B, C)
        blocks = (content1, salient1, salient2, content2)
        all_features = (*(block.features for block in blocks), features)
        if not (self.training and self.has_heads):
            return CSSCOutput(all_features, None)
        return CSSCOutput(all_features, (*(b.logits for b in blocks), self._classify(features)))

    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings (B, C) float32, not normalised, of normalised images (B, 3, H, W).

        The published test feature is the normalised sum over an image and its mirror image:
        ``reid_core.models.FlipEmbedding``. It is taken before the batch-norm neck.

        Raises:
            RuntimeError: In training mode, where batch statistics would be used and changed.
        """
        if self.training:
            raise RuntimeError("embed() needs evaluation mode; call .eval() on the network first")
        output: CSSCOutput = self(images)
        return output.features[-1]

    def inference_state(self) -> dict[str, Tensor]:
        """Return the state dict of the test-time network: all entries but the training heads'."""
        return without_heads(self.state_dict())

    @in_float32
    def _classify(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.bottleneck(features))
        return logits


def without_heads(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a state dict holds for the test-time network.

    Args:
        state: Of a ``CSSC`` with or without training heads.
    """
    heads = ("bottleneck", "l_conv_list", "classifier")

    def is_head(key: str) -> bool:
        first, second = key.split(".")[:2]
        return first in heads or (first.startswith("smr_") and second in heads)

    return {key: value for key, value in state.items() if not is_head(key)}
