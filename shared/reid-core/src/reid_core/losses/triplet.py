"""Batch-hard triplet losses on cosine and on Euclidean distances."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from reid_core.losses.pairs import PairGallery, cosine_pairs, euclidean_distances
from reid_core.precision import in_float32

__all__ = ["HardestPairs", "batch_hard_triplet", "batch_hard_triplet_euclidean", "hardest_pairs"]


class HardestPairs(NamedTuple):
    """The hardest pairs of each anchor.

    Attributes:
        positive: (B,) largest distance to the same identity, the anchor itself included.
        negative: (B,) smallest distance to any other identity; infinite where there is none.
    """

    positive: Tensor
    negative: Tensor


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


@in_float32
def batch_hard_triplet_euclidean(
    features: Tensor,
    pids: Tensor,
    *,
    margin: float | None = 0.3,
    gallery: PairGallery | None = None,
) -> Tensor:
    """Return mean over anchors of relu(d_ap - d_an + margin), with d the Euclidean distance.

    Hermans et al., "In Defense of the Triplet Loss", 2017, Eq. 5 (CSSC, official). d_ap is the
    largest distance to the same identity, the anchor itself included, d_an the smallest to any
    other; d is ``euclidean_distances``. Identities may be there any number of times.

    Args:
        features: (B, D) float, not normalised.
        pids: (B,) int64.
        margin: In units of the features; None for the soft margin log(1 + exp(d_ap - d_an)) of
            their section 2.
        gallery: Rows to compare with, from ``gather_gallery``; default: the batch itself.

    Returns:
        Scalar, mean over the B anchors; 0 where all are of one identity.
    """
    pairs = hardest_pairs(features, pids, gallery=gallery)
    # -inf where there is no other identity, for which both forms are 0.
    excess = pairs.positive - pairs.negative
    losses = F.softplus(excess) if margin is None else (excess + margin).relu()
    return losses.mean()


@in_float32
def hardest_pairs(
    features: Tensor, pids: Tensor, *, gallery: PairGallery | None = None
) -> HardestPairs:
    """Return each anchor's hardest pairs by the Euclidean distance ``euclidean_distances``.

    Args:
        features: (B, D) float, not normalised.
        pids: (B,) int64.
        gallery: Rows to compare with, from ``gather_gallery``; default: the batch itself.
    """
    others = PairGallery(features, pids, 0) if gallery is None else gallery
    same = pids[:, None] == others.pids[None, :]  # (B, N)
    distances = euclidean_distances(features, others.features.to(features.dtype))
    return HardestPairs(
        positive=distances.masked_fill(~same, float("-inf")).max(dim=1).values,
        negative=distances.masked_fill(same, float("inf")).min(dim=1).values,
    )
