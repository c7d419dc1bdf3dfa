"""Loss terms of AIM: the paper's own, and the choices among the shared ones.

Weights and first epochs of the terms belong to the recipe. Legend: B batch, N classes, D embedding
dimension.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from reid_core.errors import ConfigError
from reid_core.losses import (
    PairGallery,
    arcface,
    batch_hard_triplet,
    circle,
    contrastive,
    cosface,
    label_smoothing_cross_entropy,
    pairwise_circle,
    pairwise_cosface,
)
from reid_core.precision import in_float32

__all__ = [
    "clothes_loss",
    "counterfactual_logits",
    "identity_loss",
    "pair_loss",
    "symmetric_kl",
]


def identity_loss(
    logits: Tensor,
    pids: Tensor,
    *,
    kind: Literal["label_smoothing", "arcface", "cosface", "circle"] = "label_smoothing",
    epsilon: float = 0.1,
    scale: float = 16.0,
    margin: float = 0.0,
) -> Tensor:
    """Return the identity loss L_id, mean over the batch.

    Args:
        logits: (B, N) float; cosines for every kind but ``label_smoothing``.
        pids: (B,) int64 in 0..N-1.
        kind: ``label_smoothing`` is the published one.
        epsilon: Label smoothing, for ``label_smoothing`` only.
        scale: Of the cosine losses.
        margin: Of the cosine losses.

    Raises:
        ConfigError: When the kind is unknown.
    """
    if kind == "label_smoothing":
        return label_smoothing_cross_entropy(logits, pids, epsilon=epsilon)
    if kind == "arcface":
        return arcface(logits, pids, scale=scale, margin=margin)
    if kind == "cosface":
        return cosface(logits, pids, scale=scale, margin=margin)
    if kind == "circle":
        return circle(logits, pids, scale=scale, margin=margin)
    raise _unknown("identity loss", kind, "label_smoothing, arcface, cosface, circle")


def counterfactual_logits(logits: Tensor, fused_logits: Tensor) -> Tensor:
    """Return what the person adds to the identity logits beyond what the clothes suggest.

    The identity loss of this difference is the debiasing term L_deb (total effect minus the
    clothes' own effect). Nothing is detached: gradient reaches the classifier through both, the
    identity branch, and the fusion. The linear classifier's bias cancels.

    Args:
        logits: (B, N), of the identity features.
        fused_logits: (B, N), of the clothes-attended features, by the same classifier.
    """
    return logits - fused_logits


def clothes_loss(
    cosines: Tensor,
    clothes_ids: Tensor,
    *,
    kind: Literal["cosface", "cross_entropy"] = "cosface",
    scale: float = 16.0,
) -> Tensor:
    """Return the clothes classification loss (L_clo, L_clo2), mean over the batch.

    Args:
        cosines: (B, N) float in [-1, 1].
        clothes_ids: (B,) int64 in 0..N-1.
        kind: ``cosface`` (published; the margin is 0, as in the official code) or
            ``cross_entropy`` on unscaled cosines.
        scale: Inverse temperature of ``cosface``.

    Raises:
        ConfigError: When the kind is unknown.
    """
    if kind == "cosface":
        return cosface(cosines, clothes_ids, scale=scale, margin=0.0)
    if kind == "cross_entropy":
        return label_smoothing_cross_entropy(cosines, clothes_ids, epsilon=0.0)
    raise _unknown("clothes loss", kind, "cosface, cross_entropy")


@in_float32
def symmetric_kl(
    cosines: Tensor,
    target_cosines: Tensor,
    *,
    reduction: Literal["sum", "batchmean"] = "sum",
) -> Tensor:
    """Return KL(P||Q) + KL(Q||P), P = softmax(cosines), Q = softmax(target_cosines) detached.

    L_kl keeps the clothing branch's view of the outfit close to the identity branch's. Temperature
    1: the cosines are not scaled, so both distributions are near uniform and the loss is small.

    Args:
        cosines: (B, N), of the clothing branch; receives the gradient.
        target_cosines: (B, N), of the identity branch's clothes classifier; constant.
        reduction: ``sum`` over the batch (official: its weight grows with the batch size) or
            ``batchmean``.

    Raises:
        ConfigError: When the reduction is unknown.
    """
    log_p = F.log_softmax(cosines, dim=1)
    log_q = F.log_softmax(target_cosines.detach(), dim=1)
    total = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum()
    if reduction == "sum":
        return total
    if reduction == "batchmean":
        return total / len(cosines)
    raise _unknown("KL reduction", reduction, "sum, batchmean")


def pair_loss(
    features: Tensor,
    pids: Tensor,
    *,
    kind: Literal["triplet", "contrastive", "cosface", "circle"] = "triplet",
    scale: float = 16.0,
    margin: float = 0.3,
    gallery: PairGallery | None = None,
) -> Tensor:
    """Return the pair loss L_pair on identity features, mean over the batch.

    Args:
        features: (B, D) float, not normalised.
        pids: (B,) int64.
        kind: ``triplet`` is the official default (with weight 0).
        scale: Of ``contrastive``, ``cosface`` and ``circle``.
        margin: Of ``triplet``, ``cosface`` and ``circle``.
        gallery: Rows of all processes, from ``reid_core.losses.gather_gallery``.

    Raises:
        ConfigError: When the kind is unknown.
    """
    if kind == "triplet":
        return batch_hard_triplet(features, pids, margin=margin, gallery=gallery)
    if kind == "contrastive":
        return contrastive(features, pids, scale=scale, gallery=gallery)
    if kind == "cosface":
        return pairwise_cosface(features, pids, scale=scale, margin=margin, gallery=gallery)
    if kind == "circle":
        return pairwise_circle(features, pids, scale=scale, margin=margin, gallery=gallery)
    raise _unknown("pair loss", kind, "triplet, contrastive, cosface, circle")


def _unknown(what: str, value: object, accepted: str) -> ConfigError:
    return ConfigError(f"unknown {what} {value!r}; choose one of {accepted}")
