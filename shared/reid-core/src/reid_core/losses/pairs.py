"""Which rows of a batch are compared with which, for losses on pairs of features.

Legend: B anchors, N rows of the gallery, D feature dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from reid_core.engine.distributed import PeerError

__all__ = [
    "PairGallery",
    "Pairs",
    "cosine_pairs",
    "euclidean_distances",
    "gather_gallery",
    "masked_logsumexp",
]

# Square of the smallest distance that is told from 0; official behaviour of CSSC.
_MIN_SQUARE = 1e-12


class PairGallery(NamedTuple):
    """Rows that the anchors of a pair loss are compared with.

    Attributes:
        features: (N, D) float.
        pids: (N,) int64.
        offset: Row at which the anchors themselves start.
    """

    features: Tensor
    pids: Tensor
    offset: int


class Pairs(NamedTuple):
    """Cosines between anchors and gallery, and what each pair is.

    Attributes:
        cosines: (B, N) float in [-1, 1].
        is_positive: (B, N) bool, the same identity, the anchor itself left out.
        is_negative: (B, N) bool, another identity.
    """

    cosines: Tensor
    is_positive: Tensor
    is_negative: Tensor


def cosine_pairs(features: Tensor, pids: Tensor, gallery: PairGallery | None) -> Pairs:
    """Compare every anchor with every row of the gallery.

    Args:
        features: (B, D) float, not normalised.
        pids: (B,) int64.
        gallery: Rows to compare with; None compares the batch with itself.
    """
    if gallery is None:
        gallery = PairGallery(features, pids, 0)
    same = pids[:, None] == gallery.pids[None, :]
    rows = torch.arange(len(pids), device=pids.device)
    columns = torch.arange(len(gallery.pids), device=pids.device)
    itself = rows[:, None] + gallery.offset == columns[None, :]
    cosines = F.linear(F.normalize(features), F.normalize(gallery.features.to(features.dtype)))
    return Pairs(cosines, same & ~itself, ~same)


def euclidean_distances(features: Tensor, others: Tensor) -> Tensor:
    """Return sqrt(max(|f|^2 + |g|^2 - 2 f.g, 1e-12)) for all pairs of rows.

    The gradient of pairs below the limit is zero, so that equal rows give no NaN. In float32 a
    distance far below the length of the rows is rounding noise, that of a row to itself included.

    Args:
        features: (B, D) float.
        others: (N, D) float, same dtype.

    Returns:
        (B, N), at least 1e-6.
    """
    squares = features.square().sum(dim=1)[:, None] + others.square().sum(dim=1)[None, :]
    return (squares - 2 * features @ others.T).clamp(min=_MIN_SQUARE).sqrt()


def gather_gallery(features: Tensor, pids: Tensor) -> PairGallery:
    """Collect the batches of all processes as the gallery of a pair loss.

    The other processes' rows are constants: gradient reaches this process's rows only, as in the
    official implementations of CAL and AIM. With one process this is the batch itself.

    Args:
        features: (B, D) float; B must be the same in every process.
        pids: (B,) int64.

    Raises:
        PeerError: When another process has stopped.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return PairGallery(features, pids, 0)
    world_size, rank = distributed.get_world_size(), distributed.get_rank()
    all_features = [torch.empty_like(features) for _ in range(world_size)]
    all_pids = [torch.empty_like(pids) for _ in range(world_size)]
    try:
        distributed.all_gather(all_features, features.detach().contiguous())
        distributed.all_gather(all_pids, pids.contiguous())
    except RuntimeError as error:
        raise PeerError(
            "another process of this run stopped or cannot be reached (while gathering features "
            f"for a pair loss): its own message says why. Transport: {error}"
        ) from error
    all_features[rank] = features
    return PairGallery(torch.cat(all_features), torch.cat(all_pids), rank * len(pids))


def masked_logsumexp(values: Tensor, mask: Tensor) -> Tensor:
    """Return log(sum over a row's marked entries of exp(value)), (B,) from (B, N).

    A row without marked entries gives the lowest finite number, so that what is computed from it
    has finite gradients.
    """
    lowest = torch.finfo(values.dtype).min
    return values.masked_fill(~mask, lowest).logsumexp(dim=1)
