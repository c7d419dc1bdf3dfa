"""Exact ranking metrics by counting: no row of scores is sorted into a ranking, none is kept.

For a match with score t, let o be the number of other-identity gallery images with a score >= t.
If o_1 <= ... <= o_n are these counts for the n matches of a query, the k-th best match has rank
k + o_k once junk is left out. Everything follows: average precision is the mean of k / rank_k (one
step per match, no interpolation), the inverse negative penalty is n / rank_n (Ye et al., AGW,
TPAMI 2021), the first hit is rank_1. Counts add up over tiles of the gallery, so the Q x G matrix
never exists, and they are integers, so nothing depends on how the work was cut.

**Score**: the float64 inner product of the float32 features, see ``reid_core.evaluation.scores``.
**Ties**: an image of another identity with exactly the score of a match ranks before it. (Official
evaluations leave this to an unstable sort. With the opposite rule a network that gives every image
the same feature would be reported as perfect.)

A fast float32 product decides all pairs that are further from every threshold than its error can
be. The few others are decided by their exact scores, so average precisions and ranks are equal to
the last bit for all tile sizes, thread counts, devices and orders of the gallery.

Legend: Q queries, G gallery images, D embedding size, R queries of a chunk, W images of a tile,
K largest number of matches in a chunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_core.evaluation.counting import RivalCounter
from reid_core.evaluation.inputs import check_inputs
from reid_core.evaluation.rules import Indices, Labels, Match, find_pairs
from reid_core.evaluation.scores import exact_products

__all__ = ["Ranking", "rank_gallery"]

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """Ranking quality of every query; all arrays have length Q.

    Queries without a match are not valid: they count in no mean.

    Attributes:
        average_precision: float64 in (0, 1]; NaN where there is no match.
        inverse_negative_penalty: float64 in (0, 1]; NaN where there is no match.
        first_hit: int64, rank of the best match from 1; 0 where there is no match.
        num_positives: int64, matches.
        num_junk: int64, images of the query's identity that are left out.
        num_negatives: int64, images of other identities.
    """

    average_precision: Values
    inverse_negative_penalty: Values
    first_hit: Indices
    num_positives: Indices
    num_junk: Indices
    num_negatives: Indices

    def __len__(self) -> int:
        return len(self.first_hit)

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """(Q,) bool, True where the query has a match."""
        return self.num_positives > 0

    @property
    def num_valid(self) -> int:
        """Number of queries with a match."""
        return int(self.valid.sum())

    def cmc(self, max_rank: int) -> Values:
        """Return the cumulative matching characteristic.

        Args:
            max_rank: Length of the curve; it stays flat beyond the gallery's length.

        Returns:
            (max_rank,) float64: share of valid queries whose first hit is at rank 1, 2, ...;
            zeros where no query is valid.
        """
        hits = self.first_hit[self.valid]
        counts = np.bincount(hits[hits <= max_rank], minlength=max_rank + 1)[1:]
        return np.cumsum(counts) / max(1, len(hits))

    def rank_k(self, k: int) -> float:
        """Return the share of valid queries with a match among the first ``k``."""
        return float(self.cmc(k)[-1])

    @property
    def mean_ap(self) -> float:
        """Mean average precision over valid queries; 0 where there are none."""
        return self._mean(self.average_precision)

    @property
    def mean_inp(self) -> float:
        """Mean inverse negative penalty over valid queries; 0 where there are none."""
        return self._mean(self.inverse_negative_penalty)

    @property
    def chance_rank1(self) -> float:
        """Rank-1 of a random ranking: mean over valid queries of P / (P + N)."""
        return self._mean(
            self.num_positives / np.maximum(1, self.num_positives + self.num_negatives)
        )

    @property
    def chance_mean_ap(self) -> float:
        """Expected mAP of a random ranking, exact.

        For P matches among n = P + N images, with the harmonic number H(n):
        E[AP] = (H(n) + (n - H(n)) (P - 1) / (n - 1)) / n.
        """
        total = np.maximum(1, self.num_positives + self.num_negatives)
        harmonic = np.cumsum(1 / np.arange(1, int(total.max(initial=1)) + 1))[total - 1]
        share = (self.num_positives - 1) / np.maximum(1, total - 1)
        return self._mean((harmonic + (total - harmonic) * share) / total)

    def summary(self) -> dict[str, float | int]:
        """Return the usual figures, ready for JSON; shares are fractions in [0, 1]."""
        return {
            **{f"rank{k}": self.rank_k(k) for k in (1, 5, 10, 20)},
            "mAP": self.mean_ap,
            "mINP": self.mean_inp,
            "num_queries": len(self),
            "num_valid": self.num_valid,
            "chance_rank1": self.chance_rank1,
            "chance_mAP": self.chance_mean_ap,
        }

    def _mean(self, values: Values) -> float:
        # fsum is correctly rounded: the mean does not depend on the order of the queries.
        return math.fsum(values[self.valid]) / max(1, self.num_valid)


def rank_gallery(
    query_features: Tensor,
    gallery_features: Tensor,
    query: Labels,
    gallery: Labels,
    match: Match = "standard",
    *,
    device: torch.device | None = None,
    chunk: int | None = None,
    tile: int | None = None,
) -> Ranking:
    """Rank the gallery for every query and measure where the matches come.

    Args:
        query_features: (Q, D) float32. Compared as they are, by inner product: for cosine
            similarity pass them through ``l2_normalize`` first.
        gallery_features: (G, D) float32; may be a view of a memory-mapped file, as it is read in
            contiguous tiles from front to back.
        query: Labels of the queries.
        gallery: Labels of the gallery images.
        match: Which images of the query's identity are matches, a name in ``MATCH_RULES``.
        device: Where products are computed; by default where the query features lie.
        chunk: R, queries per product. It and ``tile`` change time and memory, never the result.
        tile: W, gallery images per product.

    Returns:
        The ranking of every query, in the order given.

    Raises:
        ProtocolError: Features that are not finite (the first rows are named), not float32, empty,
            or that do not fit the labels or each other.
    """
    query_features, gallery_features = query_features.detach(), gallery_features.detach()
    check_inputs(query_features, gallery_features, query, gallery)
    device = query_features.device if device is None else device
    on_cpu = device.type == "cpu"
    pairs = find_pairs(query, gallery, match)
    num_same, num_positives = np.diff(pairs.offsets), pairs.num_positives
    result = Ranking(
        average_precision=np.full(len(query), np.nan),
        inverse_negative_penalty=np.full(len(query), np.nan),
        first_hit=np.zeros(len(query), np.int64),
        num_positives=num_positives,
        num_junk=num_same - num_positives,
        num_negatives=len(gallery) - num_same,
    )
    # Queries of about as many matches share a chunk, so that little of (R, K) is padding.
    order = np.argsort(num_positives, kind="stable")[int((num_positives == 0).sum()) :]
    if not len(order):
        return result
    with exact_products(device):
        counter = RivalCounter(
            query_features, gallery_features, query.pids, order, pairs.take(order), device
        )
        # 16 MB of scores on a CPU, 64 MB on other devices.
        counter.count(chunk or 1024, tile or (4096 if on_cpu else 16384))
    for row, ranks in zip(order, counter.ranks(), strict=True):
        precisions = np.arange(1, len(ranks) + 1) / ranks
        result.average_precision[row] = math.fsum(precisions) / len(ranks)
        result.inverse_negative_penalty[row] = precisions[-1]
        result.first_hit[row] = ranks[0]
    return result
