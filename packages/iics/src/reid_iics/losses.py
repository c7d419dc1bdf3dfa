"""The losses of both stages. Sums belong to the steps.

Legend: B batch, K classes, C features.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from reid_core.losses import hardest_pairs, label_smoothing_cross_entropy
from reid_core.precision import in_float32

__all__ = ["TripletOutput", "identity_loss", "triplet_loss"]


class TripletOutput(NamedTuple):
    """A triplet loss and how often it is right.

    Attributes:
        loss: Scalar, mean over the anchors.
        precision: Scalar in [0, 1], share of the anchors whose nearest negative is farther than
            their farthest positive; without gradient.
    """

    loss: Tensor
    precision: Tensor


def identity_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of a head, not smoothed, without a temperature (official).

    Args:
        logits: (B, K) float.
        labels: (B,) int64 in 0..K-1, the clusters of the images.

    Returns:
        Scalar, mean over the batch.
    """
    return label_smoothing_cross_entropy(logits, labels, epsilon=0.0)


@in_float32
def triplet_loss(features: Tensor, labels: Tensor, *, margin: float = 0.3) -> TripletOutput:
    """Return the batch-hard triplet loss: mean over anchors of max(0, d_ap - d_an + margin).

    Hermans et al., "In Defense of the Triplet Loss", 2017, Eq. 5, with the pairs and the Euclidean
    distance of ``reid_core.losses.hardest_pairs``; the anchor itself is one of its positives.

    Args:
        features: (B, C) float, not normalised.
        labels: (B,) int64, any number of images of each.
        margin: In units of the features; official value.

    Returns:
        The loss, 0 where all images are of one cluster, and its precision.
    """
    pairs = hardest_pairs(features, labels)
    loss = (pairs.positive - pairs.negative + margin).relu().mean()
    return TripletOutput(loss, (pairs.negative > pairs.positive).to(loss.dtype).mean())
