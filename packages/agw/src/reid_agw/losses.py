"""The triplet losses of AGW: weighted regularised, and batch-hard for the official ``base``.

Weights of the terms belong to the recipe. Legend: B images of a batch, both modalities together, D
feature dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from reid_core.losses import hardest_pairs
from reid_core.losses.pairs import euclidean_distances
from reid_core.precision import in_float32

__all__ = ["TripletOutput", "batch_hard", "weighted_regularized_triplet"]

# Official. It decides the scale of the features, see weighted_regularized_triplet.
_WEIGHT_EPS = 1e-6
_NORM_EPS = 1e-12  # official


class TripletOutput(NamedTuple):
    """A triplet loss and how many anchors it finds in order.

    Attributes:
        loss: Scalar, mean over the anchors.
        correct: Scalar int64, anchors whose negative distance is not below the positive one.
    """

    loss: Tensor
    correct: Tensor


@in_float32
def weighted_regularized_triplet(
    features: Tensor, pids: Tensor, *, normalize: bool = False
) -> TripletOutput:
    """Return the weighted regularised triplet loss, mean over anchors i of log(1 + exp(p_i - n_i)).

    Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021, as in
    the official code: with d the Euclidean distance ``reid_core.losses.pairs.euclidean_distances``,

        p_i = sum_j d_ij exp(d_ij) / (sum_j exp(d_ij) + 1e-6 exp(m_i))   j of the same identity, i
                                                                         itself included
        n_i = sum_j d_ij exp(-d_ij) / (sum_j exp(-d_ij) + 1e-6)          j of another identity

    where m_i is the largest d_ij of the first sum. Gradient flows through weights and m_i alike.

    The 1e-6 is no mere guard against a division by 0. Once all negatives are farther than about 14,
    their weights no longer sum to 1 and n_i tends to 0: the loss is then about p_i, and its
    gradient pulls negatives in until exp(-d) is comparable to 1e-6. That bounds the scale of the
    features. A softmax in its place gives another training.

    The official log(1 + exp(x)) overflows float32 above x = 88; this one is finite, and equal
    below.

    Args:
        features: (B, D) float, not normalised (official); of both modalities alike.
        pids: (B,) int64; any number of images of each. Without another identity n_i is 0.
        normalize: Divide each row by its length first; a switch of the official code, which its
            training leaves off.

    Returns:
        The loss, at least float32, and the number of anchors with n_i >= p_i.
    """
    if normalize:
        features = features / (features.norm(dim=1, keepdim=True) + _NORM_EPS)
    same = (pids[:, None] == pids[None, :]).to(features.dtype)  # (B, B)
    other = 1 - same
    distances = euclidean_distances(features, features)
    to_same = distances * same
    farthest = to_same.max(dim=1, keepdim=True).values
    positive = _weighted_mean(distances, (to_same - farthest).exp() * same)
    # The official code subtracts the largest of -d and the positives' 0 here, which is always 0.
    negative = _weighted_mean(distances, (-distances).exp() * other)
    # log(1 + exp(p - n)) for any p - n; F.softplus drops what is below 2e-9 of it from 20 on.
    loss = -F.logsigmoid(negative - positive).mean()
    return TripletOutput(loss, (negative >= positive).sum())


@in_float32
def batch_hard(features: Tensor, pids: Tensor, *, margin: float = 0.3) -> TripletOutput:
    """Return the batch-hard triplet loss, mean over anchors of max(0, d_ap - d_an + margin).

    Hermans et al., "In Defense of the Triplet Loss", 2017, Eq. 5; the loss of the official
    ``base``. The pairs are those of ``reid_core.losses.hardest_pairs``, of both modalities alike.

    Args:
        features: (B, D) float, not normalised (official).
        pids: (B,) int64; any number of images of each.
        margin: In units of the features; official value.

    Returns:
        The loss, at least float32, 0 where all images are of one identity; and the number of
        anchors with d_an >= d_ap.
    """
    pairs = hardest_pairs(features, pids)
    loss = (pairs.positive - pairs.negative + margin).relu().mean()
    return TripletOutput(loss, (pairs.negative >= pairs.positive).sum())


def _weighted_mean(distances: Tensor, weights: Tensor) -> Tensor:
    """Return (B,) sums of distances (B, B) weighted by what is 0 for the pairs left out."""
    shares = weights / (weights.sum(dim=1, keepdim=True) + _WEIGHT_EPS)
    return torch.sum(shares * distances, dim=1)
