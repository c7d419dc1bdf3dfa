"""Linear and cosine classifiers on (B, D) features; float32 under autocast."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from reid_core.models.init import init_linear, unit_rows
from reid_core.precision import in_float32

__all__ = ["Classifier", "CosineClassifier"]


class Classifier(nn.Module):
    """Linear classifier with bias; weight N(0, 0.001), bias 0. Keys ``classifier.weight/bias``.

    Args:
        dim: Width D of the features.
        num_classes: Number N of classes.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(dim, num_classes)
        init_linear(self.classifier)

    @in_float32
    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, N) of features (B, D)."""
        logits: Tensor = self.classifier(features)
        return logits


class CosineClassifier(nn.Module):
    """Cosines between features and one weight row per class, without scale or bias.

    Rows start as uniform(-1, 1) rescaled to unit length. Key ``weight``.

    Args:
        dim: Width D of the features.
        num_classes: Number N of classes.
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(unit_rows(num_classes, dim))

    @in_float32
    def forward(self, features: Tensor) -> Tensor:
        """Return cosines (B, N) in [-1, 1] of features (B, D), which need not be normalised."""
        return F.linear(F.normalize(features), F.normalize(self.weight))

    def extra_repr(self) -> str:
        """Show both widths."""
        return f"dim={self.weight.shape[1]}, num_classes={self.weight.shape[0]}"
