"""How near images are: cosine distances, less what the heads of all cameras agree on.

Legend: N images, D embedding size, S scores of an image (one per class of every head), R rows,
W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_core.errors import ConfigError
from reid_core.evaluation.counting.precision import fast_products
from reid_core.evaluation.counting.scores import in_float64
from reid_iics.cluster_distances import Integers, num_pairs
from reid_iics.linkage import ClusteringError
from reid_iics.pair_distances import PairDistances, upper_tiles

__all__ = ["ClassScores", "mixed_distances"]

Progress = Callable[[int, int], None]

# Rows that are looked at in float64 together.
_NORM_ROWS = 256


class ClassScores:
    """Which classes the heads of all cameras see in an image.

    J_ij = sum_s min(s_i, s_j) / sum_s max(s_i, s_j) (weighted Jaccard, Eq. 5 of the paper). As the
    scores of every head sum to 1, J = (2 C - L1) / (2 C + L1), L1 = sum_s |s_i - s_j|.

    Args:
        scores: (N, S) float32, the soft-max scores of all heads, one head after the other, in any
            order.
        num_heads: C, the number of heads: what every row sums to.
        device: Where they are compared; by default where they lie.

    Raises:
        ConfigError: Rows do not sum to the number of heads.
    """

    def __init__(
        self, scores: Tensor, num_heads: int, *, device: torch.device | None = None
    ) -> None:
        scores = scores.detach().float()
        # Soft-max in half precision is that far from 1; what is further is none of these heads.
        sums = scores.sum(dim=1, dtype=torch.float64 if scores.device.type != "mps" else None)
        worst = float((sums - num_heads).abs().max()) if len(scores) else 0.0
        if not worst <= 1e-2 * num_heads:
            raise ConfigError(
                f"class scores of an image sum to {num_heads} give or take {worst:.3g}; they are "
                f"the soft-max of {num_heads} heads, so that each head's sum to 1"
            )
        self._scores = scores.to(scores.device if device is None else device).contiguous()
        self._num_heads = num_heads

    def jaccard(self, rows: slice, columns: slice) -> Tensor:
        """Return (R, W) float32 similarities on the device, 1 for equal scores, 0 for disjoint.

        Args:
            rows: Images, start and stop given.
            columns: Images, start and stop given.
        """
        # Sums, not matrix products: the default of cdist for many rows holds for p = 2 alone.
        distance = torch.cdist(self._scores[rows], self._scores[columns], p=1.0)
        total = 2.0 * self._num_heads
        return (total - distance).div_(distance.add_(total))

    def __len__(self) -> int:
        return len(self._scores)


def mixed_distances(
    features: Tensor,
    *,
    class_scores: ClassScores | None = None,
    camids: npt.ArrayLike | None = None,
    mixing_rate: float = 0.0,
    device: torch.device | None = None,
    progress: Progress = lambda done, total: None,
) -> PairDistances:
    """Return cosine distances, less mu J_ij for pairs of different cameras.

    M_ij = 1 - cos(f_i, f_j) - mu [cam_i != cam_j] J_ij (Eq. 5 of the paper). Pairs of one camera
    are left as they are. M may be negative, and smaller than the distance of an image and itself.

    The cosines are those of features of any length; an image without any (all zero) is at distance
    1 of all, itself included. Products are float32 (never TF32 or half precision), and every pair
    is computed once.

    Args:
        features: (N, D) float32, not normalised.
        class_scores: Of the same images; only looked at where ``mixing_rate`` is not 0.
        camids: (N,) integers; needed with ``class_scores``.
        mixing_rate: mu, at least 0.
        device: Where products and scores are computed; by default where the features lie.
        progress: Called with (rows done, N) now and then.

    Raises:
        ClusteringError: Features are not finite.
        ConfigError: Class scores or cameras do not go with the features.
    """
    count = len(features)
    device = features.device if device is None else device
    features = features.detach().float().to(device)
    cameras = _check_mixing(count, class_scores, camids, mixing_rate)
    scales = _inverse_norms(features)
    pairs = PairDistances(
        np.empty(num_pairs(count), np.float32), (scales == 0).float().cpu().numpy()
    )
    with fast_products(device):
        for rows, columns in upper_tiles(count, device):
            block = torch.mm(features[rows], features[columns].T)
            block.mul_(scales[rows, None]).mul_(scales[columns]).neg_().add_(1)
            if cameras is not None:
                assert class_scores is not None
                differs = cameras[rows, None] != cameras[columns]
                if differs.any():  # images come camera by camera
                    shared = class_scores.jaccard(rows, columns).to(device)
                    block -= mixing_rate * shared * torch.from_numpy(differs).to(device)
            pairs.put(rows, columns, block.cpu())
            if columns.stop == count:
                progress(rows.stop, count)
    return pairs


def _inverse_norms(features: Tensor) -> Tensor:
    """Return (N,) float32, one over the length of each row, 0 for a row of zeros."""
    norms = torch.cat(
        [
            torch.linalg.vector_norm(in_float64(features[start : start + _NORM_ROWS]), dim=1)
            for start in range(0, max(1, len(features)), _NORM_ROWS)
        ]
    )
    finite = torch.isfinite(norms)
    if not finite.all():
        places = torch.nonzero(~finite).flatten()
        raise ClusteringError(
            f"features of {len(places)} of {len(features)} images are not finite, first those of "
            f"image {int(places[0])}; the network has diverged. Use a lower learning rate"
        )
    return torch.where(norms > 0, 1 / norms, 0).float().to(features.device)


def _check_mixing(
    count: int, class_scores: ClassScores | None, camids: Any, mixing_rate: float
) -> Integers | None:
    """Return the cameras; None where no class scores are mixed in."""
    if not mixing_rate >= 0:
        raise ConfigError(f"mixing_rate={mixing_rate}; use 0 (no class scores) or more")
    if class_scores is None or mixing_rate == 0:
        return None
    cameras = np.asarray(camids)
    if cameras.shape != (count,) or len(class_scores) != count:
        raise ConfigError(
            f"{count} images, class scores of {len(class_scores)}, cameras of shape "
            f"{cameras.shape}; there is one of each for every image"
        )
    return cameras
