"""Batch-hard triplet loss on cosine distances."""

from __future__ import annotations

from torch import Tensor

from reid_core.losses.pairs import PairGallery, cosine_pairs
from reid_core.precision import in_float32

__all__ = ["batch_hard_triplet"]


@in_float32
def batch_hard_triplet(
    features: Tensor,
    pids: Tensor,
    *,
    margin: float = 0.3,
    gallery: PairGallery | None = None,
) -> Tensor:
    """Return mean over anchors of relu(d_ap - d_an + margin), with d = 1 - cos.

    Hermans et al., "In Defense of the Triplet Loss", 2017, Eq. 5, on cosine instead of Euclidean
    distance (CAL, official). d_ap is the largest distance to the same identity, the anchor itself
    included, d_an the smallest to any other.

    Args:
        features: (B, D) float, not normalised.
        pids: (B,) int64.
        margin: In cosine distance, which lies in [0, 2].
        gallery: Rows to compare with, from ``gather_gallery``; default: the batch itself.

    Returns:
        Scalar, mean over the B anchors. An anchor without another identity counts as 0.
    """
    pairs = cosine_pairs(features, pids, gallery)
    distances = 1 - pairs.cosines
    farthest_positive = distances.masked_fill(pairs.is_negative, float("-inf")).max(dim=1).values
    nearest_negative = distances.masked_fill(~pairs.is_negative, float("inf")).min(dim=1).values
    return (farthest_positive - nearest_negative + margin).relu().mean()
