"""The AIM network: identity branch, clothing branch, fusion, classifiers, and AIM itself.

Parameter names are those of the official release, so that its state dicts load key by key.
Legend: B batch, C channels of a feature map, h w its height and width, D embedding dimension
(2 C with max-avg pooling), M attention maps, P part width, N classes. Under autocast the two
ResNets run in half precision; everything after them is float32 (the signed square root of the
fusion has no finite gradient in float16).
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid_core.errors import ConfigError
from reid_core.models.classifiers import Classifier, CosineClassifier
from reid_core.models.init import init_conv, init_linear
from reid_core.models.necks import BNNeck
from reid_core.models.pooling import PoolingName, build_pooling, pool_stripes
from reid_core.models.resnet import BackboneName, ResNet, ResNetTrunk
from reid_core.precision import in_float32

__all__ = ["AIM", "AIMOutput", "BranchOutput", "ClothingBranch", "Fusion", "IDBranch"]

_STRIPES = (2, 4, 8)  # besides the whole map: 1 + 2 + 4 + 8 = 15 parts


class BranchOutput(NamedTuple):
    """What a branch returns.

    Attributes:
        feature_map: (B, C, h, w), after ReLU.
        features: (B, D) float32, after the batch-norm neck.
    """

    feature_map: Tensor
    features: Tensor


class IDBranch(ResNetTrunk):
    """Identity branch: a ResNet, global pooling and a batch-norm neck. All that test time needs.

    Attributes:
        embedding_dim: D, the pooling's expansion times C; 4096 for resnet50 with ``maxavg``.

    Args:
        backbone: Name of the ResNet.
        pooling: ``maxavg`` concatenates maximum and mean, as published.
        last_stride: Stride of the last stage.
        weights: Start weights of the ResNet: ``none``, ``imagenet`` or a file.
    """

    def __init__(
        self,
        backbone: BackboneName = "resnet50",
        *,
        pooling: PoolingName = "maxavg",
        last_stride: Literal[1, 2] = 1,
        weights: str | Path = "none",
    ) -> None:
        super().__init__(backbone, last_stride=last_stride, weights=weights)
        self.globalpooling = build_pooling(pooling)
        self.embedding_dim = self.num_features * self.globalpooling.expansion
        self.bn = BNNeck(self.embedding_dim)

    def forward(self, images: Tensor) -> BranchOutput:
        """Return feature map and features of normalised images (B, 3, H, W)."""
        feature_map = self.feature_map(images)  # (B, C, h, w)
        return BranchOutput(feature_map, self.bn(self.globalpooling(feature_map)))

    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings (B, D) float32, not normalised, of normalised images (B, 3, H, W).

        The published test feature is the normalised sum over an image and its mirror image:
        ``reid_core.models.FlipEmbedding``.

        Raises:
            RuntimeError: In training mode, where batch statistics would be used and changed.
        """
        if self.training:
            raise RuntimeError("embed() needs evaluation mode; call .eval() on the network first")
        return self.forward(images).features


class ClothingBranch(nn.Module):
    """Clothing branch: a ResNet and max-pooled parts of its map, each projected on its own.

    The parts are the whole map, then 2, 4 and 8 horizontal stripes from top to bottom. Stripe i of
    n covers rows [i * (h // n), (i + 1) * (h // n)); surplus rows at the bottom are ignored.

    Args:
        features: Backbone, images -> (B, C, h, w).
        num_channels: C.
        embedding_dim: D, width of the result.
        part_dim: P, width of each part's descriptor.
    """

    def __init__(
        self, features: nn.Module, *, num_channels: int, embedding_dim: int, part_dim: int = 256
    ) -> None:
        super().__init__()
        self.features = features
        self.global_conv = _part_conv(num_channels, part_dim)
        self.global_bn = nn.BatchNorm1d(part_dim)
        self.trans = nn.Linear(part_dim * (1 + sum(_STRIPES)), embedding_dim, bias=False)
        self.bn = BNNeck(embedding_dim)
        for count in _STRIPES:
            convs = nn.ModuleList(_part_conv(num_channels, part_dim) for _ in range(count))
            norms = nn.ModuleList(nn.BatchNorm1d(part_dim) for _ in range(count))
            self.add_module(f"pcb{count}_conv_list", convs)
            self.add_module(f"pcb{count}_batchnorm_list", norms)
        init_linear(self.trans)

    def forward(self, images: Tensor) -> BranchOutput:
        """Return feature map and features of normalised images (B, 3, H, W).

        Raises:
            ConfigError: When the map has fewer rows than there are stripes.
        """
        feature_map = self.features(images)  # (B, C, h, w)
        return BranchOutput(feature_map, self._describe(_pool_parts(feature_map)))

    @in_float32
    def _describe(self, parts: Tensor) -> Tensor:
        convs: list[nn.Module] = [self.global_conv]
        norms: list[nn.Module] = [self.global_bn]
        for count in _STRIPES:
            convs += self.get_submodule(f"pcb{count}_conv_list").children()
            norms += self.get_submodule(f"pcb{count}_batchnorm_list").children()
        # One product per part: stacking the weights for a single batched one costs more than it
        # saves (measured 2-3 x slower on CPU).
        descriptors = [
            norm(F.linear(part, conv.get_parameter("weight").flatten(1))).relu()
            for part, conv, norm in zip(parts.unbind(dim=2), convs, norms, strict=True)
        ]
        features: Tensor = self.bn(self.trans(torch.cat(descriptors, dim=1)))
        return features


def _part_conv(num_channels: int, part_dim: int) -> nn.Conv2d:
    conv = nn.Conv2d(num_channels, part_dim, kernel_size=1, bias=False)
    init_conv(conv)
    return conv


def _pool_parts(feature_map: Tensor) -> Tensor:
    """Max-pool the whole map and its stripes: (B, C, h, w) -> (B, C, 15)."""
    height = feature_map.shape[2]
    if height < max(_STRIPES):
        raise ConfigError(
            f"the clothing branch cuts its feature map into {max(_STRIPES)} stripes, but the map "
            f"has {height} rows; use images at least 16 x {max(_STRIPES)} = 128 pixels high with "
            "last_stride=1, 256 with last_stride=2"
        )
    pooled = [pool_stripes(feature_map, count, pooling="max") for count in (1, *_STRIPES)]
    return torch.cat(pooled, dim=2)


class Fusion(nn.Module):
    """Bilinear attention pooling: the identity map pooled where the clothing map attends.

    Attention maps a = relu(bn(conv(clothes_map))); for each of them the position-wise mean of
    a * feature_map; signed square root; L2 normalisation; projection; batch norm.

    Args:
        num_channels: C, channels of both maps.
        embedding_dim: D, width of the result.
        num_attentions: M, number of attention maps.
    """

    def __init__(self, *, num_channels: int, embedding_dim: int, num_attentions: int = 8) -> None:
        super().__init__()
        self.linear = nn.Linear(num_attentions * num_channels, embedding_dim, bias=False)
        self.bn = BNNeck(embedding_dim)
        conv = nn.Conv2d(num_channels, num_attentions, kernel_size=1, bias=False)
        norm = nn.BatchNorm2d(num_attentions, eps=1e-3)  # official value, not PyTorch's 1e-5
        self.attentions = nn.Sequential(OrderedDict(conv=conv, bn=norm, relu=nn.ReLU()))
        init_linear(self.linear)

    @in_float32
    def forward(self, feature_map: Tensor, clothes_map: Tensor) -> Tensor:
        """Return clothes-attended identity features (B, D).

        Args:
            feature_map: (B, C, h, w) of the identity branch.
            clothes_map: (B, C, h, w) of the clothing branch. Gradient flows to it; AIM detaches it.
        """
        attention = self.attentions(clothes_map)  # (B, M, h, w)
        num_positions = attention.shape[2] * attention.shape[3]
        pooled = torch.bmm(attention.flatten(2), feature_map.flatten(2).mT) / num_positions
        matrix = pooled.flatten(1)  # (B, M * C), index m * C + c
        # 1e-12 is lost beside 1 in any precision but sets the gradient's bound near zero.
        signed_root = matrix.sign() * (matrix.abs() + 1e-12).sqrt()
        features: Tensor = self.bn(self.linear(F.normalize(signed_root)))
        return features


class AIMOutput(NamedTuple):
    """Everything that one forward pass of AIM computes; the same in training and evaluation.

    Attributes:
        feature_map: (B, C, h, w) of the identity branch.
        features: (B, D) of the identity branch; the embedding.
        clothes_map: (B, C, h, w) of the clothing branch.
        clothes_features: (B, D) of the clothing branch.
        fused_features: (B, D), the identity map pooled by clothes attention.
        logits: (B, num_pids), identity logits of ``features``.
        fused_logits: (B, num_pids), of ``fused_features`` by the same classifier.
        clothes_logits: (B, num_clothes), cosines of ``features``, detached, in [-1, 1].
        clothes_logits2: (B, num_clothes), cosines of ``clothes_features`` in [-1, 1].
    """

    feature_map: Tensor
    features: Tensor
    clothes_map: Tensor
    clothes_features: Tensor
    fused_features: Tensor
    logits: Tensor
    fused_logits: Tensor
    clothes_logits: Tensor
    clothes_logits2: Tensor


class AIM(nn.Module):
    """Auto-Intervention Model (Yang et al., CVPR 2023).

    Two networks look at the same images: ``model`` recognises the person, ``model2`` the outfit.
    ``fuse`` shows the person network's map through the outfit network's attention, so that
    ``classifier`` says which identity the clothes alone suggest; losses remove that part.

    Args:
        num_pids: Identities in training.
        num_clothes: Outfits in training; no outfit belongs to two people.
        backbone: Name of both ResNets.
        pooling: Global pooling of the identity branch.
        last_stride: Stride of both last stages.
        weights: Start weights of both ResNets: ``none``, ``imagenet`` or a file.
        cosine_identity: Classify identities by cosine, for the losses arcface, cosface and circle;
            the published configuration has a linear classifier.
    """

    def __init__(
        self,
        num_pids: int,
        num_clothes: int,
        *,
        backbone: BackboneName = "resnet50",
        pooling: PoolingName = "maxavg",
        last_stride: Literal[1, 2] = 1,
        weights: str | Path = "none",
        cosine_identity: bool = False,
    ) -> None:
        super().__init__()
        self.model = IDBranch(backbone, pooling=pooling, last_stride=last_stride, weights=weights)
        num_channels, dim = self.model.num_features, self.model.embedding_dim
        self.model2 = ClothingBranch(
            ResNet(backbone, last_stride=last_stride, weights=weights),
            num_channels=num_channels,
            embedding_dim=dim,
        )
        self.fuse = Fusion(num_channels=num_channels, embedding_dim=dim)
        self.classifier = (CosineClassifier if cosine_identity else Classifier)(dim, num_pids)
        self.clothes_classifier = CosineClassifier(dim, num_clothes)
        self.clothes_classifier2 = CosineClassifier(dim, num_clothes)

    def forward(self, images: Tensor) -> AIMOutput:
        """Run all six parts once.

        Gradient never flows from ``fused_features`` to the clothing branch, nor from
        ``clothes_logits`` to the identity branch.

        Args:
            images: (B, 3, H, W) float, normalised; H at least 128 with ``last_stride=1``.
        """
        identity: BranchOutput = self.model(images)
        clothes: BranchOutput = self.model2(images)
        fused = self.fuse(identity.feature_map, clothes.feature_map.detach())
        return AIMOutput(
            feature_map=identity.feature_map,
            features=identity.features,
            clothes_map=clothes.feature_map,
            clothes_features=clothes.features,
            fused_features=fused,
            logits=self.classifier(identity.features),
            fused_logits=self.classifier(fused),
            clothes_logits=self.clothes_classifier(identity.features.detach()),
            clothes_logits2=self.clothes_classifier2(clothes.features),
        )

    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings (B, D) of the identity branch; see ``IDBranch.embed``."""
        return self.model.embed(images)
