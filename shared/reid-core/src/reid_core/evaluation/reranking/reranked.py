"""k-reciprocal re-ranking, exact and sparse (Zhong et al., CVPR 2017).

The final distance of a query and a gallery image is (1 - lambda) J + lambda d: d their normalised
distance, J = 1 - m / (2 - m) the Jaccard distance of their encodings, m = sum_l min(v_ql, v_gl).
All is float64. Most pairs share no entry of their encodings, so J = 1 but for few; only tiles of d
are ever dense. Labels are not used.

What official implementations keep in float16 is exact here; their results differ by up to 4e-3.

Legend: N images, Q queries, G gallery images, D embedding size, R rows, W columns, n pairs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reid_core.errors import MemoryLimitError
from reid_core.evaluation.counting.precision import fast_products
from reid_core.evaluation.counting.scores import FLOAT32_RANGE, Scores
from reid_core.evaluation.inputs import check_feature_pair
from reid_core.evaluation.reranking.config import RerankConfig
from reid_core.evaluation.reranking.image_set import ImageSetScorer, SymmetricScorer
from reid_core.evaluation.reranking.neighbours import nearest_in_set, neighbours_bytes
from reid_core.evaluation.reranking.reciprocal import Normalization, encode
from reid_core.evaluation.reranking.shared_weights import SharedWeights
from reid_core.evaluation.rules import Indices

__all__ = ["RerankedScores", "rerank", "rerank_bytes", "rerank_set"]

# Error of a float32 score near 1, in parts of the terms that it is made from.
_ROUNDING = 8 * 2.0**-24

# Products while neighbours are sought, from fast to small.
_TILE_SIZES = ((1024, 4096), (512, 2048), (256, 1024), (128, 512))


class RerankedScores:
    """Re-ranked scores, minus the final distance, as a ``Scorer`` for ``rank_scores``.

    Fast scores are float32: the scorer's, scaled, and the Jaccard term, which is exact.

    Args:
        scorer: Scores of all N images, queries and gallery together: neighbours are sought among
            all of them.
        queries: Images that are queries, start and stop given; may overlap the gallery.
        gallery: Images that are searched, start and stop given.
        config: The settings.
        chunk: Images per product while neighbours are sought, on one side. It and ``tile`` change
            time and memory, never the result.
        tile: Images on the products' other side.
    """

    def __init__(
        self,
        scorer: SymmetricScorer,
        queries: slice,
        gallery: slice,
        config: RerankConfig | None = None,
        *,
        chunk: int | None = None,
        tile: int | None = None,
    ) -> None:
        config = RerankConfig() if config is None else config
        neighbours = nearest_in_set(scorer, config.list_length, chunk=chunk, tile=tile)
        normalization = Normalization.of(neighbours, config)
        encodings = encode(scorer, neighbours, normalization, config)
        self._scorer = scorer
        self._queries, self._gallery = queries, gallery
        self._shared = SharedWeights(encodings, queries, gallery)
        rows = np.arange(queries.start, queries.stop)
        self._jaccard_share = 1 - config.lambda_value
        # score = slope * (score of the images - offset) - (1 - lambda) J
        self._slopes = config.lambda_value * normalization.slopes(rows)
        self._constants = -self._slopes * normalization.offset[rows] - self._jaccard_share
        terms = 1 + np.abs(self._constants) + config.lambda_value
        self._tolerance = self._scaled(scorer.tolerance[rows]) + _ROUNDING * terms
        # Extents that float32 cannot divide by: of features near 1e-19, or near 1e19.
        is_beyond = (self._slopes > FLOAT32_RANGE) | (self._slopes < 1 / FLOAT32_RANGE)
        self._tolerance[is_beyond & (self._slopes > 0)] = np.inf
        precise = self._scaled(scorer.precise_tolerance[rows])
        self._precise_tolerance = precise + 2.0**-29 * _ROUNDING * terms

    @property
    def num_queries(self) -> int:
        """Q."""
        return int(self._queries.stop - self._queries.start)

    @property
    def num_gallery(self) -> int:
        """G."""
        return int(self._gallery.stop - self._gallery.start)

    @property
    def device(self) -> torch.device:
        """Where fast scores are computed."""
        return self._scorer.device

    @property
    def tolerance(self) -> Scores:
        """(Q,) float64, bound of |fast - exact|."""
        return self._tolerance

    @property
    def precise_tolerance(self) -> Scores:
        """(Q,) float64, bound of |precise - exact|."""
        return self._precise_tolerance

    def tile(self, rows: Indices, columns: slice, out: Tensor) -> None:
        """Write (R, W) fast scores; see ``Scorer``."""
        slopes, constants = (
            torch.from_numpy(values[rows]).float().to(out.device)[:, None]
            for values in (self._slopes, self._constants)
        )
        first = self._gallery.start
        images = slice(first + columns.start, first + columns.stop)
        seen = self._slopes[rows] > 0
        if seen.any():
            self._scorer.tile(rows + self._queries.start, images, out)
        if not seen.all():  # Scores that do not count may be beyond float32: 0 times infinity.
            out[torch.from_numpy(~seen).to(out.device)] = 0
        torch.addcmul(constants, out, slopes, out=out)
        for part, sums in self._shared.blocks(rows, columns):
            out[part] += torch.from_numpy(self._gains(sums)).float().to(out.device)

    def precise(self, rows: Indices, columns: Indices) -> Scores:
        """Return (R, W) float64 scores; see ``Scorer``."""
        block = np.zeros((len(rows), len(columns)))
        if self._slopes[rows].any():
            images = columns + self._gallery.start
            block += self._scorer.precise(rows + self._queries.start, images)
        block *= self._slopes[rows, None]
        block += self._constants[rows, None]
        span = self._shared.span(columns)
        for part, sums in self._shared.blocks(rows, span):
            block[part] += self._gains(sums[:, columns - span.start])
        return block

    def exact(self, rows: Indices, columns: Indices) -> Scores:
        """Return (n,) exact scores; see ``Scorer``."""
        scores = np.zeros(len(rows))
        seen = np.flatnonzero(self._slopes[rows])
        scores[seen] = self._scorer.exact(
            rows[seen] + self._queries.start, columns[seen] + self._gallery.start
        )
        scores *= self._slopes[rows]
        scores += self._constants[rows]
        distinct, places = np.unique(rows, return_inverse=True)
        order = np.argsort(places, kind="stable")
        borders = np.searchsorted(places[order], np.arange(len(distinct) + 1))
        span = self._shared.span(columns)
        for part, sums in self._shared.blocks(distinct, span):
            cells = order[borders[part.start] : borders[part.stop]]
            shared = sums[places[cells] - part.start, columns[cells] - span.start]
            scores[cells] += self._gains(shared)
        return scores

    def distances(self, rows: slice, columns: slice) -> Tensor:
        """Return final distances, e.g. row by row for a clustering.

        Args:
            rows: Queries, start and stop given.
            columns: Gallery images, start and stop given.

        Returns:
            (R, W) float32 on the device, within ``tolerance`` of the exact ones; where that is
            infinite, as near as float32 allows.
        """
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        out = torch.empty(shape, dtype=torch.float32, device=self.device)
        places = np.arange(rows.start, rows.stop)
        if not np.isfinite(self._tolerance[places]).all():
            precise = self.precise(places, np.arange(columns.start, columns.stop))
            return out.copy_(torch.from_numpy(precise)).neg_()
        with fast_products(self.device):
            self.tile(places, columns, out)
        return out.neg_()

    def _gains(self, sums: Scores) -> Scores:
        """Return (1 - lambda) (1 - J) of pairs that share something."""
        # Sums may exceed 1 by rounding; distances are not negative.
        shared = np.minimum(sums, 1.0)
        gains: Scores = self._jaccard_share * (shared / (2 - shared))
        return gains

    def _scaled(self, tolerance: Scores) -> Scores:
        scaled = np.zeros_like(tolerance)
        # An infinite tolerance stays infinite only where the distance counts.
        np.multiply(tolerance, self._slopes, out=scaled, where=self._slopes > 0)
        return scaled


def rerank(
    query_features: Tensor,
    gallery_features: Tensor,
    config: RerankConfig | None = None,
    *,
    device: torch.device | None = None,
    max_bytes: int | None = None,
) -> RerankedScores:
    """Re-rank a gallery for queries, by squared Euclidean distances of their features.

    Args:
        query_features: (Q, D) float32, of unit length where cosines are meant (``l2_normalize``).
        gallery_features: (G, D) float32.
        config: The settings.
        device: Where products are computed; by default where the query features lie.
        max_bytes: Memory that may be used beyond the features; products are made smaller to keep
            to it.

    Returns:
        The scores, for ``rank_scores``.

    Raises:
        MemoryLimitError: More than ``max_bytes`` is needed; the message says how much.
        ProtocolError: As ``check_feature_pair``.
    """
    check_feature_pair(query_features, gallery_features)
    num_queries, num_gallery = len(query_features), len(gallery_features)
    scorer = ImageSetScorer(query_features, gallery_features, device=device)
    return rerank_set(
        scorer,
        slice(0, num_queries),
        slice(num_queries, num_queries + num_gallery),
        config,
        max_bytes=max_bytes,
    )


def rerank_set(
    scorer: SymmetricScorer,
    queries: slice | None = None,
    gallery: slice | None = None,
    config: RerankConfig | None = None,
    *,
    max_bytes: int | None = None,
) -> RerankedScores:
    """Re-rank images of a set by scores of any kind.

    Args:
        scorer: Scores of N images.
        queries: Images that are queries, start and stop given; by default all.
        gallery: Images that are searched, start and stop given; by default all.
        config: The settings.
        max_bytes: As for ``rerank``.

    Raises:
        MemoryLimitError: More than ``max_bytes`` is needed; the message says how much.
    """
    everything = slice(0, scorer.num_gallery)
    queries, gallery = queries or everything, gallery or everything
    config = RerankConfig() if config is None else config
    if max_bytes is None:
        return RerankedScores(scorer, queries, gallery, config)
    # Tiles on another device are no memory of the process; the smallest stand for them here.
    sizes = _TILE_SIZES if scorer.device.type == "cpu" else _TILE_SIZES[-1:]
    threads = torch.get_num_threads()
    for chunk, tile in sizes:
        needed = rerank_bytes(
            scorer.num_gallery, config, chunk=chunk, tile=tile, num_threads=threads
        )
        if needed <= max_bytes:
            if scorer.device.type != "cpu":
                return RerankedScores(scorer, queries, gallery, config)
            return RerankedScores(scorer, queries, gallery, config, chunk=chunk, tile=tile)
    raise MemoryLimitError(
        f"re-ranking {scorer.num_gallery:,} images needs about {needed / 1e6:,.0f} MB beyond their "
        f"features, even with the smallest products; {max_bytes / 1e6:,.0f} MB are allowed. Allow "
        "more, or re-rank smaller sets"
    )


def rerank_bytes(
    num_images: int,
    config: RerankConfig | None = None,
    *,
    chunk: int = _TILE_SIZES[0][0],
    tile: int = _TILE_SIZES[0][1],
    num_threads: int = 1,
) -> int:
    """Estimate the memory that re-ranking needs beyond the features, on a CPU.

    Ranking by the scores comes afterwards; it needs ``ranking_bytes``. How many images an encoding
    holds depends on the features: 1.2 k1 before averaging and five times as many afterwards are
    assumed, twice what trained networks give.

    Args:
        num_images: N, queries and gallery together.
        config: The settings.
        chunk: Images per product while neighbours are sought, on one side.
        tile: Images on the products' other side.
        num_threads: Threads that torch uses.

    Returns:
        Bytes.
    """
    config = RerankConfig() if config is None else config
    length = min(config.list_length, num_images)
    members = min(1.2 * length, num_images)
    averaged = min(members * min(config.k2, 5), num_images)
    search = neighbours_bytes(num_images, length, chunk=chunk, tile=tile, num_threads=num_threads)
    # Lists and sets of int32, pairs to score with their places, encodings and their transpose.
    encoding = num_images * int(length * 4 * 6 + members * 8 * 9 + averaged * 12 * 2.2)
    return max(search, encoding)
