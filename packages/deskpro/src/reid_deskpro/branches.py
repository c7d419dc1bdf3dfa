"""The heads of a light multi-branch network (LMBN) and the branches that they sit on.

Parameter names are those of DeskPro's official release. Legend: B batch, C channels of a branch's
map (512 at width 1), h w its height and width, N identities. Under autocast the convolutions run in
half precision; pooling, the choice of rows to drop and the heads are float32.
"""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reid_core.models.init import init_linear
from reid_core.models.necks import BNNeck
from reid_core.models.pooling import GlobalAvgPool, GlobalMaxPool
from reid_core.precision import in_float32
from reid_deskpro.osnet import OSBlock, OSNetVariant

__all__ = [
    "ChannelBranch",
    "GlobalBranch",
    "Head",
    "HeadOutput",
    "PartBranch",
    "TopDropBlock",
    "TopDropOutput",
]

_DROP_SHARE = 0.33  # of the rows of a map; official


class HeadOutput(NamedTuple):
    """What a head computes from pooled features.

    Attributes:
        features: (B, C) float32, before the neck; of the losses on distances.
        embedding: (B, C) float32, after the neck; what is compared at test time.
        logits: (B, N) float32; None without a classifier.
    """

    features: Tensor
    embedding: Tensor
    logits: Tensor | None


class Head(nn.Module):
    """Batch-norm neck with a classifier, after a 1 x 1 convolution where the head has its own.

    Args:
        num_channels: C.
        num_pids: N; None leaves the classifier out.
        reduces: The head has a convolution (official ``BNNeck3``; False: ``BNNeck``).
    """

    def __init__(self, num_channels: int, num_pids: int | None, *, reduces: bool) -> None:
        super().__init__()
        self.reduces = reduces
        if reduces:
            self.reduction = nn.Conv2d(num_channels, num_channels, 1, bias=False)
        self.bn = BNNeck(num_channels, trained_shift=False)
        self.has_classifier = num_pids is not None
        if num_pids is not None:
            self.classifier = nn.Linear(num_channels, num_pids, bias=False)
            init_linear(self.classifier)

    @in_float32
    def forward(self, pooled: Tensor) -> HeadOutput:
        """Return features, embedding and logits of a pooled map (B, C)."""
        features = self.reduction(pooled[:, :, None, None]).flatten(1) if self.reduces else pooled
        embedding: Tensor = self.bn(features)
        return HeadOutput(
            features, embedding, self.classifier(embedding) if self.has_classifier else None
        )


class TopDropOutput(NamedTuple):
    """The two maps of a Top-DropBlock.

    Attributes:
        refined: (B, C, h, w), after its own block.
        dropped: (B, C, h, w), the same without its strongest rows; in evaluation mode the same.
    """

    refined: Tensor
    dropped: Tensor


class TopDropBlock(nn.Module):
    """A block of its own, then in training the rows with the strongest activations are dropped.

    Quispe and Pedrini, "Top-DB-Net: Top DropBlock for Activation Enhancement in Person
    Re-Identification", ICPR 2020: of every image, the round(0.33 h) rows that hold the largest
    sums over channels of squared activations are set to zero, all channels and columns. Nothing is
    random. Gradient passes through the rows that are kept; the choice has none.

    Args:
        num_channels: C.
        variant: Of the block; it starts from PyTorch's default initial values (official).
    """

    def __init__(self, num_channels: int, *, variant: OSNetVariant) -> None:
        super().__init__()
        self.drop_batch_bottleneck = OSBlock(num_channels, num_channels, variant=variant)

    def forward(self, feature_map: Tensor) -> TopDropOutput:
        """Return both maps of a map (B, C, h, w)."""
        refined: Tensor = self.drop_batch_bottleneck(feature_map)
        if not self.training:
            return TopDropOutput(refined, refined)
        kept = ~_strongest_rows(refined.detach())  # (B, h)
        return TopDropOutput(refined, refined * kept[:, None, :, None].to(refined.dtype))


@in_float32
def _strongest_rows(feature_map: Tensor) -> Tensor:
    """Tell which rows of each map (B, C, h, w) are dropped: (B, h) bool."""
    scores = feature_map.square().sum(dim=1).amax(dim=2)  # (B, h)
    dropped = torch.zeros_like(scores, dtype=torch.bool)
    strongest = scores.topk(round(_DROP_SHARE * scores.shape[1]), dim=1).indices
    return dropped.scatter(1, strongest, True)


class GlobalBranch(nn.Module):
    """The heads of the whole body or face: mean of the map, maximum of what is left of it.

    Args:
        backbone2: Last stages of the trunk, its own.
        num_channels: C.
        num_pids: N, or None.
        variant: Of the block before dropping.
    """

    def __init__(
        self,
        backbone2: nn.Module,
        num_channels: int,
        num_pids: int | None,
        *,
        variant: OSNetVariant,
    ) -> None:
        super().__init__()
        self.backbone2 = backbone2
        self.reduction_1 = Head(num_channels, num_pids, reduces=True)
        self.reduction_2 = deepcopy(self.reduction_1)
        self.batch_drop_block = TopDropBlock(num_channels, variant=variant)
        self.avg_pool = GlobalAvgPool()
        self.max_pool = GlobalMaxPool()

    def forward(self, shared: Tensor) -> tuple[HeadOutput, ...]:
        """Return the heads glo and glo_drop of the stem's map."""
        refined, dropped = self.batch_drop_block(self.backbone2(shared))
        return self.reduction_1(self.avg_pool(refined)), self.reduction_2(self.max_pool(dropped))


class PartBranch(nn.Module):
    """The heads of the whole map, by its maximum, and of its upper and lower half, by their means.

    Args:
        backbone2: Last stages of the trunk, its own.
        num_channels: C.
        num_pids: N, or None.
    """

    def __init__(self, backbone2: nn.Module, num_channels: int, num_pids: int | None) -> None:
        super().__init__()
        self.backbone2 = backbone2
        self.reduction_1 = Head(num_channels, num_pids, reduces=True)
        self.reduction_2 = deepcopy(self.reduction_1)
        self.reduction_3 = deepcopy(self.reduction_1)
        self.avg_pool = GlobalAvgPool()
        self.max_pool = GlobalMaxPool()

    def forward(self, shared: Tensor) -> tuple[HeadOutput, ...]:
        """Return the heads p0, p_up and p_down of the stem's map."""
        feature_map: Tensor = self.backbone2(shared)
        height = feature_map.shape[2]
        # The middle row of an odd number belongs to both halves, as in adaptive pooling to 2 x 1.
        upper, lower = feature_map[:, :, : (height + 1) // 2], feature_map[:, :, height // 2 :]
        return (
            self.reduction_1(self.max_pool(feature_map)),
            self.reduction_2(self.avg_pool(upper)),
            self.reduction_3(self.avg_pool(lower)),
        )


class ChannelBranch(nn.Module):
    """The heads of the first and the second half of the channels, both through one layer.

    Args:
        backbone2: Last stages of the trunk, its own.
        num_channels: C.
        num_pids: N, or None.
    """

    def __init__(self, backbone2: nn.Module, num_channels: int, num_pids: int | None) -> None:
        super().__init__()
        self.backbone2 = backbone2
        self.shared = nn.Sequential(
            nn.Conv2d(num_channels // 2, num_channels, 1, bias=False),
            nn.BatchNorm2d(num_channels),
            nn.ReLU(),
        )
        self.reduction_ch_0 = Head(num_channels, num_pids, reduces=False)
        self.reduction_ch_1 = Head(num_channels, num_pids, reduces=False)
        self.avg_pool = GlobalAvgPool()

    def forward(self, shared: Tensor) -> tuple[HeadOutput, ...]:
        """Return the heads c0 and c1 of the stem's map."""
        first, second = self.avg_pool(self.backbone2(shared)).chunk(2, dim=1)  # (B, C / 2) each
        # One after the other: the statistics of the shared layer move twice, c1 last.
        return (
            self.reduction_ch_0(self._widen(first)),
            self.reduction_ch_1(self._widen(second)),
        )

    @in_float32
    def _widen(self, half: Tensor) -> Tensor:
        widened: Tensor = self.shared(half[:, :, None, None])
        return widened.flatten(1)  # (B, C)
