"""The losses of DeskPro: of each head, of the teacher's knowledge and of the attention.

Weights and sums belong to the training step. Legend: B batch, N identities, D feature dimension, h
w height and width of the attention map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from reid_core.errors import ConfigError
from reid_core.losses import batch_hard_triplet_euclidean, label_smoothing_cross_entropy
from reid_core.precision import in_float32

__all__ = [
    "MaskFloor",
    "attention_loss",
    "attention_target",
    "distillation_losses",
    "identity_losses",
    "multi_similarity",
    "multi_similarity_losses",
    "triplet_losses",
]

MaskFloor = Literal["exact", "clamp"]

_FLOOR = 0.1  # official; what clothes and background are taught instead of 0

# Multi-similarity loss, official.
_POSITIVE_SCALE, _NEGATIVE_SCALE = 2.0, 40.0
_THRESHOLD = 0.5
_SAME_IMAGE = 1 - 1e-5  # similarity from which a pair is taken for the image itself


def identity_losses(
    logits: Sequence[Tensor], pids: Tensor, *, epsilon: float = 0.1
) -> tuple[Tensor, ...]:
    """Return the identity loss of each head: cross-entropy with smoothed targets.

    Args:
        logits: (B, N) float per head.
        pids: (B,) int64 in 0..N-1.
        epsilon: Label smoothing, spread over all N classes; official value. 0 is plain
            cross-entropy.

    Returns:
        A scalar per head, mean over the batch.
    """
    return tuple(label_smoothing_cross_entropy(head, pids, epsilon=epsilon) for head in logits)


def triplet_losses(
    features: Sequence[Tensor], pids: Tensor, *, margin: float = 0.7
) -> tuple[Tensor, ...]:
    """Return the batch-hard triplet loss of each head, on Euclidean distances.

    Each process mines its own batch (official: there is one process).

    Args:
        features: (B, D) float per head, not normalised (official).
        pids: (B,) int64.
        margin: In units of the features; official value. 0 is the soft margin,
            log(1 + exp(d_ap - d_an)) (official).

    Returns:
        A scalar per head, mean over the batch.
    """
    return tuple(
        batch_hard_triplet_euclidean(head, pids, margin=margin if margin > 0 else None)
        for head in features
    )


def multi_similarity_losses(
    features: Sequence[Tensor], pids: Tensor, *, margin: float = 0.7
) -> tuple[Tensor, ...]:
    """Return the multi-similarity loss of each head.

    Args:
        features: (B, D) float per head, not normalised.
        pids: (B,) int64.
        margin: See ``multi_similarity``.

    Returns:
        A scalar per head, mean over the batch.
    """
    return tuple(multi_similarity(head, pids, margin=margin) for head in features)


@in_float32
def multi_similarity(features: Tensor, pids: Tensor, *, margin: float = 0.7) -> Tensor:
    """Return the multi-similarity loss as in the official code.

    Wang et al., "Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning", CVPR
    2019. With s the cosine of a pair, mean over anchors i of

        1/2 log(1 + sum over positives j of exp(-2 (s_ij - 0.5)))
        + 1/40 log(1 + sum over negatives j of exp(40 (s_ij - 0.5)))

    A negative (i, j) is kept where s_ij + margin exceeds the smallest similarity of a positive of
    **j**, then a positive (i, j) where s_ij - margin is below the largest of a kept negative of
    **j**. The paper's Eq. 11 and 12 compare with those of the anchor i; the official code has the
    thresholds along the other axis. Pairs of similarity from 1 - 1e-5 on are not positives.

    Args:
        features: (B, D) float, not normalised.
        pids: (B,) int64.
        margin: Of the choice of pairs, in cosine. The official code passes the margin of the
            triplet loss (the paper: 0.1).

    Returns:
        Scalar, mean over the batch. An anchor without kept pairs counts as 0.
    """
    unit = F.normalize(features)
    similarities = unit @ unit.T  # (B, B)
    same = pids[:, None] == pids[None, :]
    positive = same & (similarities < _SAME_IMAGE)
    weakest_positive = similarities.masked_fill(~positive, torch.inf).amin(dim=1)
    negative = ~same & (similarities + margin > weakest_positive[None, :])
    strongest_negative = similarities.masked_fill(~negative, -torch.inf).amax(dim=1)
    positive = positive & (similarities - margin < strongest_negative[None, :])
    excess = similarities - _THRESHOLD
    pull = _log_one_plus_sum(-_POSITIVE_SCALE * excess, positive) / _POSITIVE_SCALE
    push = _log_one_plus_sum(_NEGATIVE_SCALE * excess, negative) / _NEGATIVE_SCALE
    return (pull + push).mean()


def distillation_losses(
    student: Sequence[Tensor], teacher: Sequence[Tensor], *, temperature: float
) -> tuple[Tensor, ...]:
    """Return what each head of the student has yet to learn from the same head of the teacher.

    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015:
    T^2 KL(softmax(t / T) || softmax(s / T)), mean over the batch. The teacher is a constant.

    Args:
        student: (B, N) float per head.
        teacher: (B, N) float per head, in the same order.
        temperature: T, > 0; officially 5 for Celeb-reID and 1 for PRCC.

    Returns:
        A scalar per head; the official loss is their sum.
    """
    return tuple(
        _distillation(own, known.detach(), temperature)
        for own, known in zip(student, teacher, strict=True)
    )


@in_float32
def _distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    divergence = F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return temperature**2 * divergence


@in_float32
def attention_target(masks: Tensor, size: tuple[int, int], *, floor: MaskFloor = "exact") -> Tensor:
    """Return what the attention map is taught: the mask at the map's size, nowhere 0.

    The resize is bilinear with half-pixel centres and without antialiasing (official: OpenCV's): at
    the official sizes, the mean of the four middle pixels of each cell of 8 x 8.

    Args:
        masks: (B, 1 or 3, H, W) float in [0, 1], 1 where there are no clothes, not normalised. Of
            three channels the first counts.
        size: (h, w) of the attention map.
        floor: ``exact`` (official) puts 0.1 in the place of exact zeros; ``clamp`` raises all
            values below 0.1 to it, as e.g. JPEG masks without exact zeros need.

    Returns:
        (B, 1, h, w), float32 or the masks' double precision.

    Raises:
        ConfigError: The floor is unknown.
    """
    if floor not in get_args(MaskFloor):
        raise ConfigError(
            f"unknown mask_floor {floor!r}; choose one of {', '.join(get_args(MaskFloor))}"
        )
    resized = F.interpolate(masks[:, :1], size, mode="bilinear", align_corners=False)
    if floor == "clamp":
        return resized.clamp(min=_FLOOR)
    return resized.masked_fill(resized == 0, _FLOOR)


@in_float32
def attention_loss(attention: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of attention and target over batch and positions.

    Args:
        attention: (B, 1, h, w) float in (0, 1).
        target: (B, 1, h, w), of ``attention_target``.

    Returns:
        Scalar.
    """
    return F.mse_loss(attention, target.to(attention.dtype))


def _log_one_plus_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Return log(1 + sum over a row's marked entries of exp(value)), (B,) from (B, B)."""
    marked = values.masked_fill(~mask, -torch.inf)
    return F.pad(marked, (1, 0)).logsumexp(dim=1)  # the padding's 0 is log 1
