"""Pooling of a feature map (B, C, H, W), as a whole or in stripes; float32 under autocast.

Every global pooling to (B, D) has ``expansion`` = D / C, from which the width of what follows is
computed.
Legend: B batch, C channels, H W height and width of the map, D feature dimension.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid_core.errors import ConfigError
from reid_core.precision import in_float32

__all__ = [
    "GeM",
    "GlobalAvgPool",
    "GlobalMaxAvgPool",
    "GlobalMaxPool",
    "GlobalPool",
    "PoolingName",
    "build_pooling",
    "pool_stripes",
]

PoolingName = Literal["avg", "max", "gem", "maxavg"]


class GlobalPool(nn.Module):
    """Base of the global poolings; holds ``expansion`` only."""

    expansion: int = 1


class GlobalAvgPool(GlobalPool):
    """Mean over all positions."""

    @in_float32
    def forward(self, feature_map: Tensor) -> Tensor:
        """Pool (B, C, H, W) to (B, C)."""
        return feature_map.mean(dim=(2, 3))


class GlobalMaxPool(GlobalPool):
    """Largest value over all positions; of several equal ones the first takes the gradient."""

    @in_float32
    def forward(self, feature_map: Tensor) -> Tensor:
        """Pool (B, C, H, W) to (B, C)."""
        # Not amax, whose gradient is shared among equal values, and not adaptive pooling, which
        # has no deterministic CUDA backward.
        return F.max_pool2d(feature_map, feature_map.shape[-2:]).flatten(1)


class GlobalMaxAvgPool(GlobalPool):
    """Concatenation of the maximum and the mean, maximum first (CAL, CVPR 2022, official)."""

    expansion = 2

    @in_float32
    def forward(self, feature_map: Tensor) -> Tensor:
        """Pool (B, C, H, W) to (B, 2 C)."""
        maximum = F.max_pool2d(feature_map, feature_map.shape[-2:]).flatten(1)
        return torch.cat([maximum, feature_map.mean(dim=(2, 3))], dim=1)


class GeM(GlobalPool):
    """Generalised mean: (mean over positions of clamp(x, eps)^p)^(1/p).

    Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019, Eq. 3.

    Args:
        p: Initial exponent, > 0; 1 is the mean, infinity the maximum.
        eps: Lower bound of the values before the power; above 0.
        learn_p: The exponent is trained (key ``p``); False makes it a constant.
        add_eps: ``eps`` is added to the mean of the powers and bounds nothing (AGW, TPAMI 2021,
            official): (mean of x^p + eps)^(1/p). The values must not be negative then.
    """

    def __init__(
        self, p: float = 3.0, eps: float = 1e-6, *, learn_p: bool = True, add_eps: bool = False
    ) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([p])) if learn_p else p
        self.eps = eps
        self.add_eps = add_eps

    @in_float32
    def forward(self, feature_map: Tensor) -> Tensor:
        """Pool (B, C, H, W) to (B, C)."""
        if self.add_eps:
            mean = feature_map.pow(self.p).mean(dim=(2, 3)) + self.eps
        else:
            mean = feature_map.clamp(min=self.eps).pow(self.p).mean(dim=(2, 3))
        return mean.pow(1.0 / self.p)

    def extra_repr(self) -> str:
        """Show a constant exponent and where the bound applies."""
        p = "" if isinstance(self.p, nn.Parameter) else f"p={self.p}, "
        return f"{p}eps={self.eps}, add_eps={self.add_eps}"


def build_pooling(name: PoolingName) -> GlobalPool:
    """Return a new global pooling by name.

    Args:
        name: ``avg``, ``max``, ``gem`` (p = 3) or ``maxavg``.

    Raises:
        ConfigError: When the name is unknown.
    """
    kinds: dict[str, type[GlobalPool]] = {
        "avg": GlobalAvgPool,
        "max": GlobalMaxPool,
        "gem": GeM,
        "maxavg": GlobalMaxAvgPool,
    }
    if name not in kinds:
        raise ConfigError(
            f"unknown pooling {name!r}; choose one of {', '.join(get_args(PoolingName))}"
        )
    return kinds[name]()


@in_float32
def pool_stripes(
    feature_map: Tensor, num_stripes: int, *, pooling: Literal["avg", "max"]
) -> Tensor:
    """Pool horizontal stripes of equal height: (B, C, H, W) -> (B, C, num_stripes).

    Stripe i covers rows [i * (H // num_stripes), (i + 1) * (H // num_stripes)), from the top;
    surplus rows at the bottom are ignored.

    Args:
        feature_map: (B, C, H, W) float; H is at least ``num_stripes``.
        num_stripes: Number of stripes.
        pooling: Mean or maximum over all positions of a stripe.
    """
    height, width = feature_map.shape[-2:]
    pool = F.avg_pool2d if pooling == "avg" else F.max_pool2d
    # Windows do not overlap; with surplus rows there may be more of them than stripes.
    return pool(feature_map, (height // num_stripes, width))[:, :, :num_stripes, 0]
