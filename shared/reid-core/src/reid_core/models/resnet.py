"""ResNet trunks: torchvision's networks without pooling and classifier.

Keys are torchvision's (``conv1``, ``bn1``, ``layer1`` .. ``layer4``), so its files load unchanged.
Legend: B batch, C channels, H W height and width of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args

import torchvision.models as tvm
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from reid_core.errors import ConfigError
from reid_core.models.pretrained import load_backbone

__all__ = ["BackboneName", "ResNet", "ResNetTrunk", "StageName", "detect_backbone"]

BackboneName = Literal["resnet10", "resnet18", "resnet34", "resnet50"]
StageName = Literal["layer1", "layer2", "layer3", "layer4"]


class _Architecture(NamedTuple):
    block: type[nn.Module]
    num_blocks: tuple[int, int, int, int]
    imagenet: tvm.WeightsEnum | None


# V1 weights: the published ReID results start from these, not from V2. resnet10 is the shallowest
# network that torchvision's class can build; nobody publishes weights for it.
_ARCHITECTURES: dict[str, _Architecture] = {
    "resnet10": _Architecture(BasicBlock, (1, 1, 1, 1), None),
    "resnet18": _Architecture(BasicBlock, (2, 2, 2, 2), tvm.ResNet18_Weights.IMAGENET1K_V1),
    "resnet34": _Architecture(BasicBlock, (3, 4, 6, 3), tvm.ResNet34_Weights.IMAGENET1K_V1),
    "resnet50": _Architecture(Bottleneck, (3, 4, 6, 3), tvm.ResNet50_Weights.IMAGENET1K_V1),
}


class ResNetTrunk(tvm.ResNet):  # type: ignore[misc]  # torchvision is not typed
    """torchvision ResNet up to its last feature map; networks extend it with their own forward.

    Attributes:
        num_features: Channels C of the feature map: 2048 for resnet50, else 512.

    Args:
        name: ``resnet10``, ``resnet18``, ``resnet34`` or ``resnet50``.
        last_stride: Stride of ``layer4``: 1 doubles the resolution of the map (Sun et al., PCB,
            ECCV 2018), 2 is torchvision's. No dilation; the weights are the same.
        weights: ``none`` (random, He initialisation), ``imagenet`` (torchvision IMAGENET1K_V1,
            downloaded once) or a file: a state dict as .safetensors or written by ``torch.save``.
        norms: Stages whose batch norms are replaced, each with a function from a batch norm, which
            has its start weights, to what is put in its place under the same name.

    Raises:
        ConfigError: When the name or the stride is unknown, or there are no ImageNet weights for
            the name.
        CheckpointError: When the weights cannot be had or do not fit.
    """

    def __init__(
        self,
        name: BackboneName = "resnet50",
        *,
        last_stride: Literal[1, 2] = 1,
        weights: str | Path = "none",
        norms: Mapping[StageName, Callable[[nn.BatchNorm2d], nn.Module]] | None = None,
    ) -> None:
        if name not in _ARCHITECTURES:
            raise ConfigError(
                f"unknown backbone {name!r}; choose one of {', '.join(get_args(BackboneName))}"
            )
        if last_stride not in (1, 2):
            raise ConfigError(f"last_stride={last_stride!r} must be 1 or 2")
        block, num_blocks, imagenet = _ARCHITECTURES[name]
        super().__init__(block, list(num_blocks))
        self.num_features: int = self.fc.in_features
        del self.avgpool, self.fc
        if last_stride == 1:
            for layer in self.layer4[0].modules():
                if isinstance(layer, nn.Conv2d):
                    layer.stride = (1, 1)
        load_backbone(self, weights, name=name, imagenet=imagenet)
        for stage, convert in (norms or {}).items():
            _replace_batchnorms(self.get_submodule(stage), convert)

    def feature_map(self, images: Tensor) -> Tensor:
        """Return the feature map, after ReLU.

        Args:
            images: (B, 3, H, W) float, normalised.

        Returns:
            (B, C, H/16, W/16) with ``last_stride=1``, (B, C, H/32, W/32) with 2, rounded up.
        """
        stem = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # (B, 64, H/4, W/4)
        stage2 = self.layer2(self.layer1(stem))  # (B, C/4, H/8, W/8)
        feature_map: Tensor = self.layer4(self.layer3(stage2))
        return feature_map


class ResNet(ResNetTrunk):
    """The trunk as a network of its own: images (B, 3, H, W) -> feature map."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature map; see ``ResNetTrunk.feature_map``."""
        return self.feature_map(images)


def _replace_batchnorms(module: nn.Module, convert: Callable[[nn.BatchNorm2d], nn.Module]) -> None:
    for name, part in module.named_children():
        if isinstance(part, nn.BatchNorm2d):
            setattr(module, name, convert(part))
        else:
            _replace_batchnorms(part, convert)


def detect_backbone(keys: Iterable[str]) -> BackboneName | None:
    """Return which trunk a state dict belongs to, judged by its keys; None when it is none.

    Args:
        keys: Keys ``layer<i>.<block>.<...>``, without a prefix; others are ignored.
    """
    blocks: list[set[str]] = [set(), set(), set(), set()]
    bottleneck = False
    for key in keys:
        stage, _, rest = key.partition(".")
        if stage in ("layer1", "layer2", "layer3", "layer4"):
            blocks[int(stage[-1]) - 1].add(rest.partition(".")[0])
            bottleneck = bottleneck or ".conv3." in key
    found = (Bottleneck if bottleneck else BasicBlock, tuple(len(stage) for stage in blocks))
    for name, architecture in _ARCHITECTURES.items():
        if found == (architecture.block, architecture.num_blocks):
            return cast(BackboneName, name)
    return None
