"""Softmax losses on cosine logits with a margin: CosFace, ArcFace, circle.

Legend: B batch, N classes. All take the cosines of a cosine classifier, all are means over the
batch, and with ``margin=0`` CosFace and ArcFace are the scaled softmax cross-entropy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from reid_core.precision import in_float32

__all__ = ["arcface", "circle", "cosface"]

# Keeps the square root's gradient in ArcFace finite (below 2,300) at cosine +1 and -1.
_MAX_COSINE = 1 - 1e-7


@in_float32
def cosface(cosines: Tensor, labels: Tensor, *, scale: float = 16.0, margin: float = 0.0) -> Tensor:
    """Return CE(scale * (cos - margin * onehot)).

    Wang et al., "CosFace", CVPR 2018, Eq. 4.

    Args:
        cosines: (B, N) float in [-1, 1].
        labels: (B,) int64 in 0..N-1.
        scale: Inverse temperature, > 0.
        margin: Subtracted from the cosine of the true class.
    """
    onehot = F.one_hot(labels, cosines.shape[1]).to(cosines.dtype)
    return F.cross_entropy(scale * (cosines - margin * onehot), labels)


@in_float32
def arcface(cosines: Tensor, labels: Tensor, *, scale: float = 16.0, margin: float = 0.0) -> Tensor:
    """Return CE(scale * t), where the true class has t = cos(angle + margin), others t = cos.

    Deng et al., "ArcFace", CVPR 2019, Eq. 3. Where angle + margin would exceed pi
    (cos <= cos(pi - margin)), t = cos - margin * sin(pi - margin), as in the authors' code.

    Args:
        cosines: (B, N) float in [-1, 1].
        labels: (B,) int64 in 0..N-1.
        scale: Inverse temperature, > 0.
        margin: Radians added to the angle of the true class, in [0, pi/2].
    """
    target = cosines.gather(1, labels[:, None])  # (B, 1)
    inside = target.clamp(-_MAX_COSINE, _MAX_COSINE)
    shifted = inside * math.cos(margin) - (1 - inside.square()).sqrt() * math.sin(margin)
    linear = target - margin * math.sin(math.pi - margin)
    penalised = torch.where(target > math.cos(math.pi - margin), shifted, linear)
    return F.cross_entropy(scale * cosines.scatter(1, labels[:, None], penalised), labels)


@in_float32
def circle(cosines: Tensor, labels: Tensor, *, scale: float = 96.0, margin: float = 0.3) -> Tensor:
    """Return the circle loss with class labels.

    Sun et al., "Circle Loss", CVPR 2020, Eq. 5 and 6: CE over the logits
    scale * a * (cos - (1 - margin)) for the true class, a = relu(1 + margin - cos), and
    scale * a * (cos - margin) for the others, a = relu(cos + margin). The factors a are detached.

    Args:
        cosines: (B, N) float in [-1, 1].
        labels: (B,) int64 in 0..N-1.
        scale: Called gamma in the paper, > 0.
        margin: Relaxation m.
    """
    is_target = F.one_hot(labels, cosines.shape[1]).bool()
    weight = torch.where(is_target, 1 + margin - cosines, cosines + margin).relu().detach()
    excess = torch.where(is_target, cosines - (1 - margin), cosines - margin)
    return F.cross_entropy(scale * weight * excess, labels)
