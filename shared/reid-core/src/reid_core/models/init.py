"""Initial values of heads, as CAL and AIM draw them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["init_batchnorm", "init_conv", "init_linear", "unit_rows"]


def init_batchnorm(norm: nn.BatchNorm1d, std: float = 0.02) -> None:
    """Draw the scale of a batch norm from N(1, std) and zero its shift.

    Args:
        norm: Changed in place; must be affine.
        std: Standard deviation of the scale.
    """
    nn.init.normal_(norm.weight, mean=1.0, std=std)
    nn.init.zeros_(norm.bias)


def init_linear(linear: nn.Linear, std: float = 0.001) -> None:
    """Draw the weight of a linear layer from N(0, std) and zero its bias, if it has one."""
    nn.init.normal_(linear.weight, std=std)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def init_conv(conv: nn.Conv2d) -> None:
    """Draw the weight of a convolution from N(0, sqrt(2 / fan_out)).

    The fan-out rule of He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")


def unit_rows(num_rows: int, dim: int) -> Tensor:
    """Return (num_rows, dim) float32: uniform(-1, 1) rows rescaled to unit length."""
    return nn.functional.normalize(torch.empty(num_rows, dim).uniform_(-1, 1), dim=1)
