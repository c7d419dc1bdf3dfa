"""The AGW network: non-local blocks, and AGW itself, a ResNet with a stem for each modality.

Legend: B images, C channels of a feature map, h w its height and width, n = h w positions, W inner
width of a non-local block, N identities. Under autocast the convolutions of the ResNet run in half
precision; the attention of the non-local blocks, pooling, neck and classifier are float32.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid_core.errors import ConfigError
from reid_core.models.init import init_batchnorm, init_linear
from reid_core.models.necks import BNNeck
from reid_core.models.pooling import GeM, GlobalAvgPool, GlobalPool
from reid_core.models.resnet import BackboneName, ResNetTrunk
from reid_core.precision import in_float32

__all__ = ["AGW", "AGWOutput", "NonLocal", "ParameterGroups", "PoolingKind"]

PoolingKind = Literal["gem", "avg"]

# How many blocks of the second and third stage, counted from the end, a non-local block follows.
# Official: blocks 2 and 3 of the four, 3 to 5 of the six of resnet50.
_NUM_NON_LOCAL = (2, 3)

_GEM_EPS = 1e-12  # official; added to the mean, so that a dead channel has a finite gradient
_NECK_STD = 0.01  # official; of the scale of the neck around 1
_CLASSIFIER_STD = 0.001  # official


class NonLocal(nn.Module):
    """Non-local block: every position gets a sum over all positions, weighted by affinity.

    Wang et al., "Non-local Neural Networks", CVPR 2018, Eq. 1, with the dot-product affinity of its
    Eq. 4, divided by the number of positions:

        y_i = 1/n sum_j (theta_i . phi_j) g_j;  out_i = x_i + BN(W y_i + b)

    There is no softmax, so the sum over j is the same W x W matrix 1/n sum_j phi_j g_j^T for every
    position i: the block is computed in O(n) instead of O(n^2), equal to rounding, and the n x n
    affinities never exist. The batch norm starts at 0: at first the block changes nothing.

    Args:
        num_channels: C.
        width: W, channels of theta, phi and g. AGW's official code divides its reduction ratio by
            itself, so that its blocks have width 1 (the paper of the block: C / 2).
    """

    def __init__(self, num_channels: int, width: int = 1) -> None:
        super().__init__()
        self.theta = nn.Conv2d(num_channels, width, kernel_size=1)
        self.phi = nn.Conv2d(num_channels, width, kernel_size=1)
        self.g = nn.Conv2d(num_channels, width, kernel_size=1)
        self.project = nn.Conv2d(width, num_channels, kernel_size=1)
        self.norm = nn.BatchNorm2d(num_channels)
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return the refined map (B, C, h, w) of a map (B, C, h, w)."""
        # One convolution: with few output channels, reading the map is what takes the time.
        layers = (self.theta, self.phi, self.g)
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers if layer.bias is not None])
        inner = F.conv2d(feature_map, weight, bias)  # (B, 3 W, h, w)
        return feature_map + self._attend(inner).to(feature_map.dtype)

    @in_float32
    def _attend(self, inner: Tensor) -> Tensor:
        """Return what is added to the map; a product of three values, too large for float16."""
        theta, phi, g = inner.chunk(3, dim=1)  # (B, W, h, w) each
        summary = g.flatten(2) @ phi.flatten(2).mT / phi[0, 0].numel()  # (B, W, W)
        attended = (summary @ theta.flatten(2)).view(theta.shape)
        refined: Tensor = self.norm(self.project(attended))  # (B, C, h, w)
        return refined


class AGWOutput(NamedTuple):
    """What a forward pass of AGW computes.

    Attributes:
        features: (B, C) float32, pooled, neither normalised nor through the neck; of the triplet
            loss.
        logits: (B, N) float32; None in evaluation mode or without a classifier.
    """

    features: Tensor
    logits: Tensor | None


class ParameterGroups(NamedTuple):
    """All parameters of AGW, in the three groups that are trained at rates of their own.

    Attributes:
        backbone: Of both stems, the shared stages, the non-local blocks and the pooling.
        bottleneck: Of the neck; its shift is frozen.
        classifier: Empty without a classifier.
    """

    backbone: list[nn.Parameter]
    bottleneck: list[nn.Parameter]
    classifier: list[nn.Parameter]


class AGW(nn.Module):
    """The AGW baseline for visible-infrared search (Ye et al., TPAMI 2021), official two-stream.

    Visible and infrared images each have a stem of their own (first convolution, batch norm, ReLU,
    max-pooling), then everything is shared, batch statistics included. In training a batch is one
    tensor, the visible half first.

    Attributes:
        embedding_dim: C, 2048 for resnet50, else 512.

    Args:
        num_pids: Identities in training; None builds the test-time network without a classifier
            (23.6 instead of 24.4 million parameters for resnet50 and 395 identities).
        backbone: Name of the ResNet. Shallower ones than resnet50 have non-local blocks after as
            many of their last blocks as there are.
        last_stride: Stride of the last stage.
        pooling: ``gem`` (AGW) or ``avg`` (the official ``base``).
        gem_p: Exponent of ``gem``, > 0.
        learn_gem: Train the exponent; the paper's text says so, the official code keeps it at 3.
        non_local: False leaves the non-local blocks out (the official ``base``).
        nonlocal_ratio: Channels of a map over the inner width of its non-local block, at least 1;
            None is the official inner width of 1.
        weights: Start weights of both stems and the stages: ``none``, ``imagenet`` or a file.

    Raises:
        ConfigError: When a value is outside its range, or there are no such weights.
        CheckpointError: When the weights cannot be had or do not fit.
    """

    cross_modal: ClassVar[bool] = True
    """``embed`` must be told which images are infrared."""

    feature_names: ClassVar[tuple[str, ...]] = ("fc", "pool")
    """The features of ``embed_each``, by their names in the official code; the first is AGW's."""

    def __init__(
        self,
        num_pids: int | None,
        *,
        backbone: BackboneName = "resnet50",
        last_stride: Literal[1, 2] = 1,
        pooling: PoolingKind = "gem",
        gem_p: float = 3.0,
        learn_gem: bool = False,
        non_local: bool = True,
        nonlocal_ratio: int | None = None,
        weights: str | Path = "none",
    ) -> None:
        super().__init__()
        trunk = ResNetTrunk(backbone, last_stride=last_stride, weights=weights)
        self.embedding_dim = dim = trunk.num_features
        stem = OrderedDict(conv1=trunk.conv1, bn1=trunk.bn1, relu=trunk.relu, maxpool=trunk.maxpool)
        self.stem_visible = nn.Sequential(stem)
        self.stem_infrared = deepcopy(self.stem_visible)
        self.layer1, self.layer2 = trunk.layer1, trunk.layer2
        self.layer3, self.layer4 = trunk.layer3, trunk.layer4
        blocks2, blocks3 = _NUM_NON_LOCAL if non_local else (0, 0)
        self.non_local2 = _non_local_blocks(self.layer2, blocks2, dim // 4, nonlocal_ratio)
        self.non_local3 = _non_local_blocks(self.layer3, blocks3, dim // 2, nonlocal_ratio)
        self.pool = _build_pool(pooling, gem_p, learn_gem)
        self.bottleneck = BNNeck(dim, trained_shift=False)
        init_batchnorm(self.bottleneck, std=_NECK_STD)
        self.has_classifier = num_pids is not None
        if num_pids is not None:
            self.classifier = nn.Linear(dim, num_pids, bias=False)
            init_linear(self.classifier, std=_CLASSIFIER_STD)

    def forward(self, images: Tensor) -> AGWOutput:
        """Run the network once on a batch of both modalities.

        Args:
            images: (B, 3, H, W) float, normalised; the first half visible, the second infrared.

        Raises:
            ConfigError: When B is odd.
        """
        if len(images) % 2:
            raise ConfigError(
                f"a training batch of AGW is visible images, then as many infrared ones, but this "
                f"one has {len(images)} images; use an even number (for images of any mixture: "
                "embed)"
            )
        visible, infrared = images.chunk(2)
        # One by one: a stem's batch norm sees its own modality only, those after it see both.
        stem = torch.cat([self.stem_visible(visible), self.stem_infrared(infrared)])
        features = self._pooled(stem)
        if not (self.training and self.has_classifier):
            return AGWOutput(features, None)
        return AGWOutput(features, self._classify(features))

    def embed(self, images: Tensor, infrared: Tensor) -> Tensor:
        """Return embeddings (B, C) float32, not normalised: the pooled features after the neck.

        Args:
            images: (B, 3, H, W) float, normalised.
            infrared: (B,) bool, which of the images are infrared; any mixture.

        Raises:
            RuntimeError: In training mode, where batch statistics would be used and changed.
        """
        return self.embed_each(images, infrared)[:, 0]

    def embed_each(self, images: Tensor, infrared: Tensor) -> Tensor:
        """Return both features (B, 2, C) float32, not normalised, in order of ``feature_names``.

        ``fc`` is after the batch-norm neck, ``pool`` before it. Both are compared by the cosine.

        Args:
            images: As in ``embed``.
            infrared: As in ``embed``.

        Raises:
            RuntimeError: As in ``embed``.
        """
        if self.training:
            raise RuntimeError("embed() needs evaluation mode; call .eval() on the network first")
        # Both stems see all images (the second costs about a fiftieth of the network): no shape
        # depends on the mixture, so that the network can be exported, and the features of an image
        # never depend on the images beside it.
        is_infrared = infrared[:, None, None, None]
        stem = torch.where(is_infrared, self.stem_infrared(images), self.stem_visible(images))
        pooled = self._pooled(stem)
        return torch.stack([self.bottleneck(pooled), pooled], dim=1)

    def inference_state(self) -> dict[str, Tensor]:
        """Return the state dict of the test-time network: all entries but the classifier's."""
        return without_classifier(self.state_dict())

    def parameter_groups(self) -> ParameterGroups:
        """Return every parameter once, in the official groups."""
        groups = ParameterGroups([], [], [])
        for name, parameter in self.named_parameters():
            module = name.partition(".")[0]
            getattr(groups, module if module in groups._fields else "backbone").append(parameter)
        return groups

    def _pooled(self, stem: Tensor) -> Tensor:
        """Return pooled features (B, C) float32 of what the stems return, (B, 64, H/4, W/4)."""
        stage2 = _run_stage(self.layer2, self.non_local2, self.layer1(stem))  # (B, C/4, H/8, W/8)
        stage3 = _run_stage(self.layer3, self.non_local3, stage2)  # (B, C/2, H/16, W/16)
        features: Tensor = self.pool(self.layer4(stage3))  # (B, C)
        return features

    @in_float32
    def _classify(self, features: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.bottleneck(features))
        return logits


def without_classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a state dict holds for the test-time network.

    Args:
        state: Of an ``AGW`` with or without a classifier.
    """
    return {key: value for key, value in state.items() if not key.startswith("classifier.")}


def _non_local_blocks(
    stage: nn.Sequential, count: int, num_channels: int, ratio: int | None
) -> nn.ModuleList:
    """Return the non-local blocks after the last ``count`` blocks of a stage, if it has so many."""
    if ratio is not None and not 1 <= ratio <= num_channels:
        raise ConfigError(
            f"nonlocal_ratio={ratio} must be from 1 to {num_channels}, the channels of the map, or "
            "None for the official inner width of 1"
        )
    width = 1 if ratio is None else num_channels // ratio
    return nn.ModuleList(NonLocal(num_channels, width) for _ in range(min(count, len(stage))))


def _build_pool(pooling: PoolingKind, p: float, learn_p: bool) -> GlobalPool:
    if pooling not in get_args(PoolingKind):
        raise ConfigError(
            f"unknown pooling {pooling!r}; choose one of {', '.join(get_args(PoolingKind))}"
        )
    if not p > 0:
        raise ConfigError(f"gem_p={p} must be above 0; the official value is 3")
    if pooling == "avg":
        return GlobalAvgPool()
    return GeM(p, _GEM_EPS, learn_p=learn_p, add_eps=True)


def _run_stage(stage: nn.Sequential, non_local: nn.ModuleList, feature_map: Tensor) -> Tensor:
    """Run the blocks of a stage, the last ones each followed by a non-local block."""
    first = len(stage) - len(non_local)
    for number, block in enumerate(stage):
        feature_map = block(feature_map)
        if number >= first:
            feature_map = non_local[number - first](feature_map)
    return feature_map
