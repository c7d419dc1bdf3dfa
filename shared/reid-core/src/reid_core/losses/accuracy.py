"""How often a classifier is right."""

from __future__ import annotations

from torch import Tensor

__all__ = ["accuracy"]


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of rows whose largest logit is the label's; scalar in [0, 1].

    Args:
        logits: (B, N) float.
        labels: (B,) int64.
    """
    return (logits.argmax(dim=1) == labels).float().mean()
