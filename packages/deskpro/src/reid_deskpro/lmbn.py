"""The light multi-branch network (LMBN): one OSNet stem, three branches, seven heads.

Each stream of DeskPro is one, and so is the teacher. Parameter names are those of the official
release, without the second names under which it saves the branches.
Legend: B batch, C channels of the last map (512 at width 1), h w height and width of a map, N
identities.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from reid_deskpro.branches import ChannelBranch, GlobalBranch, HeadOutput, PartBranch
from reid_deskpro.osnet import OSNetTrunk, OSNetVariant
from reid_deskpro.pretrained import load_osnet

__all__ = [
    "FEATURE_HEADS",
    "HEADS",
    "LMBN",
    "LMBNOutput",
    "SpatialAttention",
    "without_classifiers",
]

HEADS = ("glo", "glo_drop", "p0", "p_up", "p_down", "c0", "c1")
"""The seven heads, in the order of logits and of the parts of an embedding."""

FEATURE_HEADS = HEADS[:3]
"""The heads whose features are given out for a loss on distances."""


class SpatialAttention(nn.Module):
    """Weight in (0, 1) of each position of a map: sigmoid(W2 relu(W1 x)), no biases.

    Args:
        num_channels: Of the map.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_channels, num_channels, 1, bias=False)
        self.conv2 = nn.Conv2d(num_channels, 1, 1, bias=False)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return the weights (B, 1, h, w) of a map (B, C, h, w)."""
        return torch.sigmoid(self.conv2(torch.relu(self.conv1(feature_map))))


class LMBNOutput(NamedTuple):
    """What one forward pass of an LMBN computes.

    Attributes:
        logits: Seven of (B, N) float32 in the order of ``HEADS``; None without classifiers.
        features: Three of (B, C) float32 in the order of ``FEATURE_HEADS``, neither normalised nor
            through the neck.
        attention: (B, 1, h, w) in (0, 1); None for a network without attention.
    """

    logits: tuple[Tensor, ...] | None
    features: tuple[Tensor, ...]
    attention: Tensor | None


class LMBN(nn.Module):
    """Light multi-branch network on OSNet, as in DeskPro's official code.

    Usable alone, as DeskPro's teacher is trained. The stem is OSNet up to the first block of its
    third stage; each branch has the rest of OSNet of its own, all starting from the same values.

    Attributes:
        embedding_dim: 7 C, 3,584 at width 1.

    Args:
        num_pids: N, identities in training; None leaves the classifiers out.
        width: Factor of the channels of OSNet, and so of C.
        variant: Which streams of the blocks are summed, see ``OSBlock``.
        weights: Start weights of OSNet: ``none``, ``imagenet`` or a file of torchreid.
        attention: The stem's map is multiplied by a learned spatial attention (DeskPro's body
            stream).

    Raises:
        ConfigError: When a value is outside its range.
        CheckpointError: When the weights cannot be had or do not fit.
    """

    part_groups: ClassVar[Mapping[str, int]] = MappingProxyType({"parts": len(HEADS)})
    """An embedding is compared part by part: it is seven of C numbers."""

    def __init__(
        self,
        num_pids: int | None,
        *,
        width: float = 1.0,
        variant: OSNetVariant = "deskpro",
        weights: str | Path = "none",
        attention: bool = False,
    ) -> None:
        super().__init__()
        trunk = OSNetTrunk(width=width, variant=variant)
        load_osnet(trunk, weights, width=width)
        dim = trunk.num_channels
        self.embedding_dim = len(HEADS) * dim
        first, second, transition = trunk.conv3
        self.backbone = nn.Sequential(trunk.conv1, trunk.maxpool, trunk.conv2, first)
        if attention:
            self.spatial_attn = SpatialAttention(trunk.num_stage3_channels)
        self.has_attention = attention
        # The blocks keep their numbers within the third stage, as in the official state dict.
        stage3 = nn.Sequential(OrderedDict([("1", second), ("2", transition)]))
        rest = nn.Sequential(stage3, trunk.conv4, trunk.conv5)
        self.global_branch = GlobalBranch(deepcopy(rest), dim, num_pids, variant=variant)
        self.part_branch = PartBranch(deepcopy(rest), dim, num_pids)
        self.channel_branch = ChannelBranch(rest, dim, num_pids)

    def forward(self, images: Tensor) -> LMBNOutput:
        """Run the network once on normalised images (B, 3, H, W)."""
        heads, attention = self._run(images)
        logits = tuple(head.logits for head in heads if head.logits is not None)
        features = tuple(head.features for head in heads[: len(FEATURE_HEADS)])
        return LMBNOutput(logits or None, features, attention)

    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings (B, 7 C) float32 of normalised images: head by head, not normalised.

        Raises:
            RuntimeError: In training mode, where batch statistics would be used and changed.
        """
        if self.training:
            raise RuntimeError("embed() needs evaluation mode; call .eval() on the network first")
        heads, _ = self._run(images)
        return torch.cat([head.embedding for head in heads], dim=1)

    def inference_state(self) -> dict[str, Tensor]:
        """Return the state dict of the test-time network: all entries but the classifiers'."""
        return without_classifiers(self.state_dict())

    def _run(self, images: Tensor) -> tuple[list[HeadOutput], Tensor | None]:
        """Return the seven heads and the attention."""
        shared = self.backbone(images)  # (B, 384, H/8, W/8)
        attention: Tensor | None = None
        if self.has_attention:
            attention = self.spatial_attn(shared)
            shared = shared * attention
        branches = (self.global_branch, self.part_branch, self.channel_branch)
        return [head for branch in branches for head in branch(shared)], attention


def without_classifiers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a state dict holds for the test-time network.

    Args:
        state: Of an ``LMBN``, or of networks that hold some.
    """
    return {key: value for key, value in state.items() if not key.endswith("classifier.weight")}
