"""Batch-norm neck between pooled features and classifiers."""

from __future__ import annotations

from torch import Tensor, nn

from reid_core.models.init import init_batchnorm
from reid_core.precision import in_float32

__all__ = ["BNNeck"]


class BNNeck(nn.BatchNorm1d):
    """BatchNorm1d whose output is both classified and compared.

    Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPRW
    2019. Computes in float32 under autocast.

    Args:
        num_features: Width D of the features.
        trained_shift: The shift is trained and the scale starts at N(1, 0.02), as in CAL and AIM;
            False is the paper's neck, whose shift stays 0 and whose scale starts at 1.
    """

    def __init__(self, num_features: int, *, trained_shift: bool = True) -> None:
        super().__init__(num_features)
        if trained_shift:
            init_batchnorm(self)
        self.bias.requires_grad_(trained_shift)

    @in_float32
    def forward(self, features: Tensor) -> Tensor:
        """Normalise features (B, D) over the batch (training) or by running statistics (eval)."""
        return super().forward(features)
