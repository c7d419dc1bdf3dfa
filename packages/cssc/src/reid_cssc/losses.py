"""The losses of CSSC's heads.

First epochs and sums belong to the recipe. Legend: B batch, N identities, D feature dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from reid_core.losses import batch_hard_triplet_euclidean, label_smoothing_cross_entropy

__all__ = ["identity_losses", "triplet_losses"]


def identity_losses(
    logits: Sequence[Tensor], pids: Tensor, *, epsilon: float = 0.1
) -> tuple[Tensor, ...]:
    """Return the identity loss of each head: cross-entropy with smoothed targets.

    Args:
        logits: (B, N) float per head.
        pids: (B,) int64 in 0..N-1.
        epsilon: Label smoothing; official value.

    Returns:
        A scalar per head, mean over the batch.
    """
    return tuple(label_smoothing_cross_entropy(head, pids, epsilon=epsilon) for head in logits)


def triplet_losses(
    features: Sequence[Tensor], pids: Tensor, *, margin: float = 0.3
) -> tuple[Tensor, ...]:
    """Return the batch-hard triplet loss of each head, on Euclidean distances.

    The features are those of the official code: pooled, not normalised, before neck and gate.
    Each process mines its own batch (official: there is one process).

    Args:
        features: (B, D) float per head.
        pids: (B,) int64.
        margin: In units of the features; official value.

    Returns:
        A scalar per head, mean over the batch.
    """
    return tuple(batch_hard_triplet_euclidean(head, pids, margin=margin) for head in features)
