"""OSNet's trunk, as torchreid defines it and as DeskPro's official code runs it.

Zhou et al., "Omni-Scale Feature Learning for Person Re-Identification", ICCV 2019. Parameter names
are those of torchreid, so that its ImageNet weights load key by key.
Legend: B batch, C channels of a feature map, h w its height and width. Under autocast the
convolutions run in half precision.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid_core.errors import ConfigError
from reid_core.models.init import init_conv

__all__ = [
    "ChannelGate",
    "ConvLayer",
    "LightConv",
    "OSBlock",
    "OSNetTrunk",
    "OSNetVariant",
    "RepeatedBatchNorm2d",
]

OSNetVariant = Literal["deskpro", "standard"]

# Channels after the stem and after the three stages of OSNet x1.0.
_CHANNELS = (64, 256, 384, 512)
_BOTTLENECK = 4  # channels of a block over those of its streams
_GATE_REDUCTION = 16  # channels of a stream over the hidden width of the gate

_MOMENTUM = 0.1  # official; PyTorch's default


class RepeatedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of a layer that the official code runs twice on every batch.

    Its running statistics move twice towards the same batch statistics: once with the momentum
    1 - (1 - m)^2 = 0.19, and the count of batches grows by two.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features, momentum=1 - (1 - _MOMENTUM) ** 2)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Normalise a map (B, C, h, w), in training by its own statistics."""
        normalised = super().forward(feature_map)
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return normalised


class ConvLayer(nn.Module):
    """Convolution without bias, batch norm, ReLU (torchreid's ``ConvLayer`` and ``Conv1x1``).

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
        kernel_size: Side of the kernel in pixels; the map is padded by half of it.
        stride: In pixels.
        relu: False ends with the batch norm (torchreid's ``Conv1x1Linear``).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = relu

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return (B, out_channels, h / stride, w / stride)."""
        normalised: Tensor = self.bn(self.conv(feature_map))
        return F.relu(normalised) if self.relu else normalised


class LightConv(nn.Module):
    """Factorised 3 x 3 convolution: 1 x 1, then depth-wise 3 x 3, batch norm, ReLU.

    Args:
        channels: Of input and output.
        repeated: The official code runs this layer twice on every batch.
    """

    def __init__(self, channels: int, *, repeated: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = RepeatedBatchNorm2d(channels) if repeated else nn.BatchNorm2d(channels)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return a map of the same shape."""
        return F.relu(self.bn(self.conv2(self.conv1(feature_map))))


class ChannelGate(nn.Module):
    """Weight of each channel from the pooled map: v * sigmoid(W2 relu(W1 mean(v) + b1) + b2).

    Args:
        channels: Of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // _GATE_REDUCTION)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return the weighted map, of the same shape."""
        pooled = feature_map.mean(dim=(2, 3), keepdim=True)
        weights = torch.sigmoid(self.fc2(F.relu(self.fc1(pooled))))
        return feature_map * weights


class OSBlock(nn.Module):
    """Omni-scale block: a bottleneck with streams of growing field of view behind one shared gate.

    ``standard`` sums the gated streams a + b + c + d of 1, 2, 3 and 4 light convolutions.
    ``deskpro`` is what DeskPro's official weights were trained with: stream a takes the place of b,
    a + a + c + d. Stream b keeps its parameters, which are saved but neither used nor trained;
    a is computed once, with the running statistics of a layer that runs twice.

    Args:
        in_channels: Of the input.
        out_channels: Of the output; a quarter of them in each stream.
        variant: Which streams are summed.

    Raises:
        ConfigError: When the variant is unknown.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, variant: OSNetVariant = "deskpro"
    ) -> None:
        super().__init__()
        if variant not in get_args(OSNetVariant):
            raise ConfigError(
                f"unknown osnet_variant {variant!r}; choose one of "
                f"{', '.join(get_args(OSNetVariant))}"
            )
        self.variant = variant
        inner = out_channels // _BOTTLENECK
        self.conv1 = ConvLayer(in_channels, inner)
        self.conv2a = LightConv(inner, repeated=variant == "deskpro")
        self.conv2b = nn.Sequential(*(LightConv(inner) for _ in range(2)))
        self.conv2c = nn.Sequential(*(LightConv(inner) for _ in range(3)))
        self.conv2d = nn.Sequential(*(LightConv(inner) for _ in range(4)))
        self.gate = ChannelGate(inner)
        self.conv3 = ConvLayer(inner, out_channels, relu=False)
        self.downsample = (
            None
            if in_channels == out_channels
            else ConvLayer(in_channels, out_channels, relu=False)
        )
        # Frozen, so that no optimiser, no weight decay and no gradient average touches them.
        self.conv2b.requires_grad_(variant == "standard")

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return (B, out_channels, h, w)."""
        reduced = self.conv1(feature_map)  # (B, out_channels / 4, h, w)
        first = self.gate(self.conv2a(reduced))
        second = first if self.variant == "deskpro" else self.gate(self.conv2b(reduced))
        streams = first + second + self.gate(self.conv2c(reduced)) + self.gate(self.conv2d(reduced))
        shortcut = feature_map if self.downsample is None else self.downsample(feature_map)
        return F.relu(self.conv3(streams) + shortcut)


class OSNetTrunk(nn.Module):
    """OSNet up to its last feature map, at 1/16 of the image.

    Attributes:
        num_channels: Channels of the last map, 512 at width 1.
        num_stage3_channels: Channels of the third stage (``conv3``), 384 at width 1.

    Args:
        width: Factor of all channels; torchreid's networks have 1, 0.75, 0.5 and 0.25.
        variant: See ``OSBlock``.

    Raises:
        ConfigError: When a value is outside its range.
    """

    def __init__(self, *, width: float = 1.0, variant: OSNetVariant = "deskpro") -> None:
        super().__init__()
        channels = _scaled_channels(width)
        stem, stage2, stage3, stage4 = channels
        self.num_channels = stage4
        self.num_stage3_channels = stage3
        self.conv1 = ConvLayer(3, stem, 7, stride=2)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2 = _stage(stem, stage2, variant, reduces=True)
        self.conv3 = _stage(stage2, stage3, variant, reduces=True)
        self.conv4 = _stage(stage3, stage4, variant, reduces=False)
        self.conv5 = ConvLayer(stage4, stage4)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                init_conv(part)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the map (B, C, H / 16, W / 16) of normalised images (B, 3, H, W)."""
        feature_map: Tensor = self.maxpool(self.conv1(images))  # (B, 64, H/4, W/4)
        feature_map = self.conv3(self.conv2(feature_map))  # (B, 384, H/16, W/16)
        feature_map = self.conv5(self.conv4(feature_map))
        return feature_map


def _stage(
    in_channels: int, out_channels: int, variant: OSNetVariant, *, reduces: bool
) -> nn.Sequential:
    """Return two blocks, and where the map is halved, a convolution and the mean of 2 x 2."""
    blocks = [
        OSBlock(in_channels, out_channels, variant=variant),
        OSBlock(out_channels, out_channels, variant=variant),
    ]
    if not reduces:
        return nn.Sequential(*blocks)
    transition = nn.Sequential(ConvLayer(out_channels, out_channels), nn.AvgPool2d(2, stride=2))
    return nn.Sequential(*blocks, transition)


def _scaled_channels(width: float) -> tuple[int, int, int, int]:
    stem, *stages = (round(width * channels) for channels in _CHANNELS)
    if stem < 1 or any(channels % _BOTTLENECK or channels < 1 for channels in stages):
        raise ConfigError(
            f"width={width} gives stages of {', '.join(map(str, stages))} channels, which must be "
            f"multiples of {_BOTTLENECK}; use a multiple of 1/32 above 0, e.g. 1.0, 0.5 or 0.25"
        )
    return stem, stages[0], stages[1], stages[2]
