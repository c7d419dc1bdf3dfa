"""Exact ranking metrics by counting: no row of scores is sorted into a ranking, none is kept.

For a match with score t, let o be the number of other-identity gallery images with a score >= t.
If o_1 <= ... <= o_n are these counts for the n matches of a query, the k-th best match has rank
k + o_k once junk is left out. Everything follows: average precision is the mean of k / rank_k (one
step per match, no interpolation), the inverse negative penalty is n / rank_n (Ye et al., AGW,
TPAMI 2021), the first hit is rank_1. Counts add up over tiles of the gallery, so the Q x G matrix
never exists, and they are integers, so nothing depends on how the work was cut.

**Score**: the float64 inner product of the float32 features; see
``reid_core.evaluation.counting.scores``.
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

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_core.engine.distributed import gather_objects
from reid_core.errors import ProtocolError
from reid_core.evaluation.counting.precision import Precision, fast_products
from reid_core.evaluation.counting.rivals import RivalCounter
from reid_core.evaluation.counting.scorer import Metric, Scorer, feature_scorer
from reid_core.evaluation.inputs import check_inputs
from reid_core.evaluation.rules import Indices, Labels, Match, find_pairs

__all__ = ["Ranking", "rank_gallery", "rank_scores", "ranking_bytes"]

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
        first_identity: int64, rank of the query's identity from 1 among the distinct identities of
            the gallery, each placed by its best image; 0 where there is no match. None unless it
            was asked for; the CMC is made of it then (SYSU-MM01, LLCM).
    """

    average_precision: Values
    inverse_negative_penalty: Values
    first_hit: Indices
    num_positives: Indices
    num_junk: Indices
    num_negatives: Indices
    first_identity: Indices | None = None

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
            (max_rank,) float64: share of valid queries whose first hit, or first identity, is at
            rank 1, 2, ...; zeros where no query is valid.
        """
        hits = (self.first_hit if self.first_identity is None else self.first_identity)[self.valid]
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

    @classmethod
    def merge(cls, parts: Sequence[Ranking], rows: Sequence[Indices]) -> Ranking:
        """Put the rankings of disjoint groups of queries together.

        Args:
            parts: One ranking per group.
            rows: The places of each group's queries in the whole, 0..Q-1 each once.
        """
        order = np.argsort(np.concatenate(rows))
        merged: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(part, field.name) for part in parts]
            merged[field.name] = None if values[0] is None else np.concatenate(values)[order]
        return cls(**merged)

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
    metric: Metric = "inner_product",
    identity_cmc: bool = False,
    device: torch.device | None = None,
    precision: Precision = "auto",
    chunk: int | None = None,
    tile: int | None = None,
    columns: tuple[int, int] | None = None,
) -> Ranking:
    """Rank the gallery for every query and measure where the matches come.

    Args:
        query_features: (Q, D) float32. Compared as they are: for cosine similarity pass them
            through ``l2_normalize`` first and leave ``metric`` as it is.
        gallery_features: (G, D) float32; may be a view of a memory-mapped file larger than memory,
            as it is read in contiguous tiles from front to back.
        query: Labels of the queries.
        gallery: Labels of the gallery images.
        match: Which images of the query's identity are matches, a name in ``MATCH_RULES``.
        metric: ``inner_product`` or ``euclidean``.
        identity_cmc: Also rank the query's identity among identities (``first_identity``).
        device: Where products are computed; by default where the query features lie.
        precision: Of the fast products: ``auto``, ``fp32``, ``tf32`` or ``bf16``. It, ``chunk`` and
            ``tile`` change time and memory, never the result.
        chunk: R, queries per product.
        tile: W, gallery images per product.
        columns: In a process group: the rows (start, stop) of the gallery that
            ``gallery_features`` holds, while ``gallery`` labels all of them. Every row belongs to
            one process; all call together, and all get the ranking of the whole gallery.

    Returns:
        The ranking of every query, in the order given.

    Raises:
        ProtocolError: Features that are not finite (the first rows are named), not float32, empty,
            or that do not fit the labels or each other; ``columns`` of the processes that leave out
            a gallery row or overlap, or labels that differ between them.
        ConfigError: Unknown metric or precision.
        PeerError: Another process has stopped.
    """
    query_features, gallery_features = query_features.detach(), gallery_features.detach()
    if columns is None:
        check_inputs(query_features, gallery_features, query, gallery)
    elif columns[0] < columns[1]:
        held = gallery.take(np.arange(len(gallery))[slice(*columns)])
        check_inputs(query_features, gallery_features, query, held)
    device = query_features.device if device is None else device
    with fast_products(device, precision):
        scorer = feature_scorer(query_features, gallery_features, metric, device, precision)
        return rank_scores(
            scorer,
            query,
            gallery,
            match,
            identity_cmc=identity_cmc,
            chunk=chunk,
            tile=tile,
            first=None if columns is None else columns[0],
        )


def rank_scores(
    scorer: Scorer,
    query: Labels,
    gallery: Labels,
    match: Match = "standard",
    *,
    identity_cmc: bool = False,
    chunk: int | None = None,
    tile: int | None = None,
    first: int | None = None,
) -> Ranking:
    """Do as ``rank_gallery`` with scores of any kind, such as re-ranked ones.

    Args:
        scorer: The scores; use inside ``fast_products`` where it computes products.
        query: Labels of its queries.
        gallery: Labels of the gallery images.
        match: Which images of the query's identity are matches.
        identity_cmc: Also rank the query's identity among identities.
        chunk: Queries per tile.
        tile: Gallery images per tile.
        first: In a process group: gallery row that is the scorer's first column.

    Returns:
        The ranking of every query, in the order given.

    Raises:
        ProtocolError: The columns of the processes do not make up the gallery, or labels differ.
        PeerError: Another process has stopped.
    """
    if first is not None:
        _check_columns(first, first + scorer.num_gallery, query, gallery)
    pairs = find_pairs(query, gallery, match)
    num_same, num_positives = np.diff(pairs.offsets), pairs.num_positives
    result = Ranking(
        average_precision=np.full(len(query), np.nan),
        inverse_negative_penalty=np.full(len(query), np.nan),
        first_hit=np.zeros(len(query), np.int64),
        num_positives=num_positives,
        num_junk=num_same - num_positives,
        num_negatives=len(gallery) - num_same,
        first_identity=np.zeros(len(query), np.int64) if identity_cmc else None,
    )
    # Queries of about as many matches share a chunk, so that little of (R, K) is padding.
    order = np.argsort(num_positives, kind="stable")[int((num_positives == 0).sum()) :]
    if not len(order):
        return result
    start = first or 0
    distinct, identities = np.unique(gallery.pids, return_inverse=True)
    counter = RivalCounter(
        scorer,
        query.pids[order],
        gallery.pids[start : start + scorer.num_gallery],
        order,
        pairs.take(order),
        first=start,
        sharded=first is not None,
        identities=identities[start : start + scorer.num_gallery] if identity_cmc else None,
        num_identities=len(distinct) if identity_cmc else 0,
    )
    counter.count(*_tiling(len(order), scorer, chunk, tile))
    for row, ranks in zip(order, counter.ranks(), strict=True):
        precisions = np.arange(1, len(ranks) + 1) / ranks
        result.average_precision[row] = math.fsum(precisions) / len(ranks)
        result.inverse_negative_penalty[row] = precisions[-1]
        result.first_hit[row] = ranks[0]
    if result.first_identity is not None:
        result.first_identity[order] = counter.identity_ranks()
    return result


def _check_columns(start: int, stop: int, query: Labels, gallery: Labels) -> None:
    """Refuse parts that are not the gallery, on all processes alike; nothing would fail later."""
    digest = hashlib.blake2b(digest_size=16)
    for labels in (query, gallery):
        for values in (labels.pids, labels.camids, labels.clothes_ids):
            digest.update(len(values).to_bytes(8, "little") + values.tobytes())
    parts, digests = zip(*gather_objects(((start, stop), digest.digest())), strict=True)
    if len(set(digests)) > 1:
        raise ProtocolError(
            "the labels differ between processes; all must pass the same queries, and the labels "
            "of the whole gallery in the same order"
        )
    held = sorted(part for part in parts if part[0] < part[1])
    ends = [0, *(stop for _, stop in held)]
    if [start for start, _ in held] != ends[:-1] or ends[-1] != len(gallery):
        listed = ", ".join(f"{start}-{stop}" for start, stop in parts)
        raise ProtocolError(
            f"the {len(parts)} process(es) hold gallery rows {listed}; together they must hold "
            f"each of the rows 0-{len(gallery)} once"
        )


def _tiling(
    num_queries: int, scorer: Scorer, chunk: int | None, tile: int | None
) -> tuple[int, int]:
    """Choose R and W: products wide enough to be fast, and enough of them for all threads."""
    if scorer.device.type != "cpu":
        return chunk or 4096, tile or 2**17
    chunk = chunk or 512
    threads = torch.get_num_threads()
    if tile is None and threads > 1:
        num_chunks = -(-num_queries // chunk)
        tile = min(4096, max(512, -(-scorer.num_gallery * num_chunks // (8 * threads))))
    # 8 MB of scores per thread, and as much for sorting them.
    return chunk, tile or 4096


def ranking_bytes(num_queries: int, num_gallery: int, dim: int, num_threads: int) -> int:
    """Estimate the memory that ``rank_gallery`` needs beyond features and labels, on a CPU.

    Args:
        num_queries: Q.
        num_gallery: G.
        dim: D.
        num_threads: Threads that torch uses.

    Returns:
        Bytes. Counts of identities (``identity_cmc``) need Q bytes more per identity.
    """
    tiles = num_threads * min(num_queries, 512) * min(num_gallery, 4096) * 4 * 2
    blocks = num_threads * 2 * 1024 * dim * 8
    per_image = 8 * 16 * (num_queries + num_gallery)
    # Pairs of one identity: few dozens per query in the data sets of the field.
    per_pair = 8 * 12 * 64 * num_queries
    return tiles + blocks + per_image + per_pair
