"""Losses on all pairs of a batch: contrastive, pairwise CosFace, pairwise circle.

Features need not be normalised; c is the cosine of two of them. All are means over the B anchors
of the batch; an anchor is never its own positive.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from reid_core.losses.pairs import PairGallery, cosine_pairs, masked_logsumexp
from reid_core.precision import in_float32

__all__ = ["contrastive", "pairwise_circle", "pairwise_cosface"]


@in_float32
def contrastive(
    features: Tensor,
    pids: Tensor,
    *,
    scale: float = 16.0,
    gallery: PairGallery | None = None,
) -> Tensor:
    """Return the supervised contrastive loss with one positive per denominator.

    Per anchor i, the mean over its positives j of
    -(s c_ij - log(exp(s c_ij) + sum over negatives n of exp(s c_in))). Form of CAL's official
    code; Khosla et al., NeurIPS 2020, Eq. 2, keep the other positives in the denominator.

    Args:
        features: (B, D) float.
        pids: (B,) int64.
        scale: Inverse temperature s, > 0.
        gallery: Rows to compare with, from ``gather_gallery``; default: the batch itself.

    Returns:
        Scalar, mean over the anchors. An anchor without a positive counts as 0.
    """
    pairs = cosine_pairs(features, pids, gallery)
    logits = scale * pairs.cosines
    negatives = masked_logsumexp(logits, pairs.is_negative)
    losses = torch.logaddexp(logits, negatives[:, None]) - logits
    num_positives = pairs.is_positive.sum(dim=1).clamp(min=1)
    return ((losses * pairs.is_positive).sum(dim=1) / num_positives).mean()


@in_float32
def pairwise_cosface(
    features: Tensor,
    pids: Tensor,
    *,
    scale: float = 16.0,
    margin: float = 0.0,
    gallery: PairGallery | None = None,
) -> Tensor:
    """Return softplus(LSE over negatives of s (c + m) + LSE over positives of -s c).

    The pairwise form of CosFace: Sun et al., "Circle Loss", CVPR 2020, Eq. 1.

    Args:
        features: (B, D) float.
        pids: (B,) int64.
        scale: Inverse temperature s, > 0.
        margin: Margin m in cosine.
        gallery: Rows to compare with, from ``gather_gallery``; default: the batch itself.

    Returns:
        Scalar, mean over the anchors. An anchor without a positive or a negative counts as 0.
    """
    pairs = cosine_pairs(features, pids, gallery)
    negatives = masked_logsumexp(scale * (pairs.cosines + margin), pairs.is_negative)
    positives = masked_logsumexp(-scale * pairs.cosines, pairs.is_positive)
    return F.softplus(negatives + positives).mean()


@in_float32
def pairwise_circle(
    features: Tensor,
    pids: Tensor,
    *,
    scale: float = 48.0,
    margin: float = 0.35,
    gallery: PairGallery | None = None,
) -> Tensor:
    """Return the circle loss with pair labels.

    Sun et al., "Circle Loss", CVPR 2020, Eq. 6 with the self-paced weights of Eq. 5:
    softplus(LSE over negatives of s a_n (c - m) + LSE over positives of s a_p (1 - m - c)), with
    a_n = relu(c + m) and a_p = relu(1 + m - c) detached.

    Args:
        features: (B, D) float.
        pids: (B,) int64.
        scale: Called gamma in the paper, > 0.
        margin: Relaxation m.
        gallery: Rows to compare with, from ``gather_gallery``; default: the batch itself.

    Returns:
        Scalar, mean over the anchors. An anchor without a positive or a negative counts as 0.
    """
    pairs = cosine_pairs(features, pids, gallery)
    cosines = pairs.cosines
    weight_n = scale * (cosines + margin).relu().detach()
    weight_p = scale * (1 + margin - cosines).relu().detach()
    negatives = masked_logsumexp(weight_n * (cosines - margin), pairs.is_negative)
    positives = masked_logsumexp(weight_p * (1 - margin - cosines), pairs.is_positive)
    return F.softplus(negatives + positives).mean()
