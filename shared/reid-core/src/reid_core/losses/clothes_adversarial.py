"""Clothes-based adversarial loss of CAL."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from reid_core.losses.pairs import masked_logsumexp
from reid_core.precision import in_float32

__all__ = ["clothes_adversarial"]


@in_float32
def clothes_adversarial(
    cosines: Tensor,
    clothes_ids: Tensor,
    own_clothes: Tensor,
    *,
    scale: float = 16.0,
    epsilon: float = 0.1,
) -> Tensor:
    """Return CAL's clothes-based adversarial loss: every outfit of the person equally likely.

    Gu et al., "Clothes-Changing Person Re-identification with RGB Modality Only", CVPR 2022.
    With S the outfits of the image's person, K = |S|, u the cosines, k the outfit worn:
    loss = mean over the batch of sum over c in S of -q_c * log p_c, where
    log p_c = s u_c - log(exp(s u_c) + sum over j not in S of exp(s u_j)) and
    q_c = (1 - epsilon) * [c = k] + epsilon / K. Other outfits of the person are not in the
    denominator. The official configurations of CAL and AIM have s = 16 and epsilon = 0.1.

    Args:
        cosines: (B, N) float, cosines of the clothes classifier on identity features. Gradients
            flow to both; the caller decides whose optimiser steps.
        clothes_ids: (B,) int64, the outfit worn, in 0..N-1.
        own_clothes: (B, N) bool (or 0/1), which outfits belong to the image's person; must hold
            the one worn.
        scale: Inverse temperature s, > 0.
        epsilon: Share of the target that is spread over S, in [0, 1].

    Returns:
        Scalar, mean over the batch; 0 where the batch's people own all outfits there are.
    """
    own = own_clothes.bool()
    logits = scale * cosines
    others = masked_logsumexp(logits, ~own)  # (B,)
    log_prob = logits - torch.logaddexp(logits, others[:, None])
    worn = F.one_hot(clothes_ids, cosines.shape[1]).to(cosines.dtype)
    share = own.to(cosines.dtype) / own.sum(dim=1, keepdim=True)
    target = (1 - epsilon) * worn + epsilon * share
    return -(target * log_prob).sum(dim=1).mean()
